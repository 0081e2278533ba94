"""Which types of payments the signer makes. The successor of go-livepeer's signs none for jobs.

It is asked in a way that can cost nothing: for a payment to no orchestrator. A signer that refuses a type
says so before it looks for the orchestrator, and something else of a type that it takes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import NoReturn

import structlog

from gateway.payments.signing_rules import PIXEL_RULES, SECOND_RULES
from gateway.payments.timebase import now_ns
from signer_client import BadRequest, PaymentType, SignerClient, SignerError

ASK_AGAIN = 300
"""Seconds between two questions: another signer may be behind the URL by then."""
TOLD_FOR = 300
"""Seconds for which the refusal of a real call counts, where the question does not tell."""
FLOWS: dict[PaymentType, str] = {PIXEL_RULES.type: "jobs", SECOND_RULES.type: "live runners by the second"}
"""What each type pays for."""
_OF_TYPE = re.compile(r"\btype\b")
_REFUSES = re.compile(r"\b(type must be|(invalid|unsupported|unknown) (job |payment )?type)\b")

log = structlog.get_logger("payments")


class SignerTypes:
    """Knows nothing until it is asked or told. `clock` is monotonic nanoseconds."""

    def __init__(self, *, clock: Callable[[], int] = now_ns) -> None:
        self._clock = clock
        self._asked: frozenset[PaymentType] = frozenset()
        """Refused by the newest answers."""
        self._told: dict[PaymentType, int] = {}
        """When a call of ours was refused for its type."""
        self._logged: set[PaymentType] = set()

    def refusal(self, payment_type: PaymentType) -> str:
        """Why no payment of this type can be made, as a sentence; empty where one can."""
        told = self._told.get(payment_type)
        if payment_type in self._asked or (told is not None and self._clock() - told < TOLD_FOR * 10**9):
            return (
                f"the signer makes no payments of the type {payment_type}, which {FLOWS[payment_type]} need"
            )
        return ""

    def refusals(self) -> list[str]:
        """The same of all types, a sentence each."""
        return [why for one in FLOWS if (why := self.refusal(one))]

    def told(self, payment_type: PaymentType, error: BadRequest) -> None:
        """A first payment was refused."""
        if _REFUSES.search(error.message):
            self._told[payment_type] = self._clock()
            self._log()

    async def run(self, signer: SignerClient) -> NoReturn:
        """Ask, until cancelled."""
        while True:
            await self.ask(signer)
            await asyncio.sleep(ASK_AGAIN)

    async def ask(self, signer: SignerClient) -> None:
        """Find out; what is known stays where it does not answer."""
        said: dict[PaymentType, str] = {}
        for one in FLOWS:
            text = await _refusal_of_nobody(signer, one)
            if text is None:
                return
            said[one] = text
        of_type = frozenset(one for one, text in said.items() if _OF_TYPE.search(text))
        refused = frozenset(one for one, text in said.items() if _REFUSES.search(text))
        self._asked = refused or (of_type if len(of_type) == 1 else frozenset())
        self._log()

    def _log(self) -> None:
        refused = {one for one in FLOWS if self.refusal(one)}
        for one in refused - self._logged:
            log.warning(self.refusal(one))
        for one in self._logged - refused:
            log.info("the signer makes payments of this type again", type=one)
        self._logged = refused


async def _refusal_of_nobody(signer: SignerClient, payment_type: PaymentType) -> str | None:
    """What the signer says of a payment to no orchestrator; None where it does not tell."""
    try:
        await signer.generate_live_payment(orchestrator=b"", state=None, payment_type=payment_type, retries=0)
    except BadRequest as error:
        return error.message
    except SignerError:
        return None
    return None
