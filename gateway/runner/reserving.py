"""Reserves a session: the check of its challenge, and its first payment until it is clear what came of it."""

from __future__ import annotations

import asyncio
from fractions import Fraction

from gateway.orchestrator.errors import NoCapacity, OrchestratorError, UnknownOutcome
from gateway.payments.payer import Payer
from gateway.reason import ChooseAgain, EndReason
from gateway.runner.client import RunnerClient
from gateway.runner.errors import SessionTaken
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
    why = price_refusal(offer, challenge.info, ceiling, chosen)
    if why is not None:
        raise ChooseAgain(EndReason.PRICE_RAISED, f"{offer.url}: {why}")
    refusal = pool.challenged(offer, challenge.info)
    if refusal is not None:
        raise ChooseAgain(EndReason.ORCHESTRATOR_LOST, f"{offer.url}: {refusal[1]}")


async def reserve(
    client: RunnerClient, payee: SessionPayee, payer: Payer, first: LivePayment
) -> RunnerSession:
    """Reserve with the first payment; without an answer the same headers go again.

    The payer is told what came of it, but for a success. Raises OrchestratorError.
    """
    tries, in_doubt = 0, payer.start_unanswered
    while True:
        tries += 1
        try:
            return await client.reserve(
                payee.offer, payee.challenge, payment=first.payment, seg_creds=first.seg_creds
            )
        except SessionTaken as error:
            if in_doubt:
                return RunnerSession.of_former_answer(payee.offer.url, payee.challenge.manifest_id)
            # the first try of all: in livepeer/node's dialect it has no room
            full = NoCapacity(error.detail)
            await payer.job_refused(full)
            raise full from error
        except UnknownOutcome as error:
            in_doubt = True
            if tries >= MAX_TRIES:
                await payer.job_refused(error)
                raise
            await asyncio.sleep(RETRY)
        except OrchestratorError as error:
            await payer.job_refused(error)
            raise
