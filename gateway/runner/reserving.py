"""Reserves a session: the check of its challenge, and its first payment until it is clear what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from fractions import Fraction

from gateway.orchestrator.errors import (
    AlreadySeen,
    BadAnswer,
    NoCapacity,
    OrchestratorError,
    Refused,
    UnknownOutcome,
    Unreachable,
)
from gateway.payments.payer import Payer
from gateway.reason import ChooseAgain, EndReason
from gateway.runner.client import RunnerClient
from gateway.runner.errors import NoSuchSession, SessionTaken
from gateway.runner.offer import RunnerOffer
from gateway.runner.payee import SessionPayee
from gateway.runner.pool import RunnerPool
from gateway.runner.reserve import Challenge, RunnerSession
from gateway.runner.selection import price_refusal
from signer_client import LivePayment

RETRY = 0.3
"""Seconds between two tries of a reserve that was not answered."""
MAX_TRIES = 4
"""Of a reserve that is not answered."""


def check_challenge(
    pool: RunnerPool, offer: RunnerOffer, challenge: Challenge, *, ceiling: Fraction, chosen: Fraction
) -> None:
    """Raises ChooseAgain before anything is signed where it is not what the runner was chosen for.

    `ceiling` and `chosen`, the price in the choice, are wei per second.
    """
    refusal = pool.challenged(offer, challenge.info)
    why = price_refusal(offer, challenge.info, ceiling, chosen)
    if why is not None:
        raise ChooseAgain(EndReason.PRICE_RAISED, f"{offer.url}: {why}")
    if refusal is not None:
        raise ChooseAgain(EndReason.ORCHESTRATOR_LOST, f"{offer.url}: {refusal[1]}")


async def reserve(
    client: RunnerClient, payee: SessionPayee, payer: Payer, first: LivePayment
) -> tuple[RunnerSession, bool]:
    """Reserve with the first payment; without an answer the same headers go again.

    Gives the session, and whether an earlier try reserved it. The payer is told what came of it, but for a
    success. Raises OrchestratorError.
    """
    headers = {"payment": first.payment, "seg_creds": first.seg_creds}
    tries = 0
    while True:
        tries += 1
        try:
            return await _reserve_once(client, payee, headers, in_doubt=payer.start_unanswered)
        except UnknownOutcome as error:
            payer.start_unanswered = True
            if tries >= MAX_TRIES:
                await payer.job_refused(error)
                raise
            await asyncio.sleep(RETRY)
        except OrchestratorError as error:
            await payer.job_refused(error)
            raise


async def _reserve_once(
    client: RunnerClient, payee: SessionPayee, headers: Mapping[str, str], *, in_doubt: bool
) -> tuple[RunnerSession, bool]:
    """`in_doubt`: an earlier try may have reserved it. Raises OrchestratorError."""
    try:
        return await client.reserve(payee.offer, payee.challenge, **headers), False
    except SessionTaken as error:
        # livepeer/node says the same where it has no room
        if not in_doubt or not await _is_there(client, payee, headers):
            raise NoCapacity(error.detail, said=error.said) from error
    return RunnerSession.of_former_answer(payee.offer.url, payee.challenge.manifest_id), True


async def _is_there(client: RunnerClient, payee: SessionPayee, headers: Mapping[str, str]) -> bool:
    """Whether the session was reserved with this payment, which is sent to it once more: it was seen then.

    Raises OrchestratorError where no answer tells.
    """
    try:
        await client.pay(payee.challenge.payment_url, payee.challenge.info, **headers)
    except NoSuchSession:
        return False
    except (AlreadySeen, BadAnswer, Refused):
        pass
    except Unreachable as error:
        raise UnknownOutcome(error.detail, said=error.said) from error
    return True
