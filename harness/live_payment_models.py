"""Exact models of a signer and of an orchestrator of live runners, for tests of payment sessions.

Written from the rules of go-livepeer's and livepeer/node's dialects alone. Tickets are real, times seconds.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor
from typing import Any, Literal, TypeVar

from gateway.money import PIXELS_PER_SECOND
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.errors import AlreadySeen, Refused, UnknownOutcome, Unreachable
from gateway.orchestrator.info import OrchestratorInfo, PriceUnit
from gateway.payments import ticket
from gateway.runner.errors import NoSuchSession, SessionTaken
from gateway.runner.offer import RunnerOffer
from gateway.runner.reserve import Challenge, RunnerSession
from harness.payment_models import MANIFEST, PRICE, Status, orchestrator_info, signed_payment
from signer_client import LivePayment, PaymentType, SignerState

Dialect = Literal["go", "node"]
PIXEL_PRICE = PRICE // PIXELS_PER_SECOND * PIXELS_PER_SECOND
"""Wei a second of a runner that is priced by whole wei a pixel."""
OPENINGS = {"live": 10, "lv2v": 60}
"""Seconds that are billed when a session opens, by the type of payment."""
BLOCK = 12
PARAMS_LIFE = 40
"""Blocks."""
LAST_NONCE = {"go": 600, "node": 500}
"""From which on a signer wants other ticket params."""
MAX_TICKETS = 100
T = TypeVar("T")


@dataclass
class LiveSignerModel:
    """A signer of payments by the second, or by the pixel. Everything is in the state that it returns."""

    dialect: Dialect
    type: PaymentType = "live"
    null_states: int = 0

    def sign(
        self, info: OrchestratorInfo, state: SignerState | None, now: Fraction, true_now: Fraction
    ) -> LivePayment:
        """The payment that is due `now` by its clock.

        The new state has `over`: the seconds that were billed after the opening beyond those that passed, by
        its clock or truly. One that was set back bills the opening again with go-livepeer, which is no part
        of it.
        """
        price, ev = info.price, info.ticket_ev
        assert price and ev
        params, opening = info.message.ticket_params, Fraction(OPENINGS[self.type])
        rand = params.recipient_rand_hash.hex()
        if state is None:
            self.null_states += 1
            former: dict[str, Any] = {"first": str(price), "balance": "0", "nonce": 0, "rand": rand}
            former |= {"began": str(now), "over": "0"}
            billed = opening
        else:
            former = json.loads(base64.b64decode(state.state))
            elapsed = now - Fraction(former["updated"])
            again = elapsed <= 0 and self.dialect == "go"
            billed = opening if again else self._billed(elapsed)
            passed = max(elapsed, true_now - Fraction(former["true"]))
            former["over"] = str(Fraction(former["over"]) + (0 if again else billed - passed))
        if price > Fraction(former["first"]):
            raise Status(481)
        nonce = former["nonce"] if former["rand"] == rand else 0
        expires = int.from_bytes(params.expiration_block, "big") - floor(true_now / BLOCK) <= 1
        if nonce >= LAST_NONCE[self.dialect] or expires:
            raise Status(480)
        fee, balance = billed * price, Fraction(former["balance"])
        count = ceil((max(fee, ev) - balance) / ev)
        if count <= 0:
            raise Status(482)
        if count > MAX_TICKETS:
            raise Status(400)
        if nonce + count >= 600:
            raise Status(480)
        new = {
            **former,
            "updated": str(now),
            "true": str(true_now),
            "balance": str(balance + count * ev - fee),
            "nonce": nonce + count,
            "rand": rand,
        }
        return signed_payment(info, nonce + 1, count, json.dumps(new))

    def _billed(self, elapsed: Fraction) -> Fraction:
        """Seconds that a later call is billed: whole ones, or those of whole pixels."""
        if self.type == "live":
            return Fraction(max(1, ceil(elapsed)))
        return Fraction(floor(PIXELS_PER_SECOND * elapsed), PIXELS_PER_SECOND)


@dataclass
class LiveOrchestratorModel:
    """An orchestrator with one session, which it releases where a debit is not covered.

    `clock` is the time. A call meets the next of `faults`: `lost` before it arrived, `unanswered` after it
    was done, `busy` where nothing is taken.
    """

    dialect: Dialect
    clock: Callable[[], Fraction]
    ticket_seconds: Fraction = Fraction(1)
    unit: PriceUnit = PriceUnit.SECONDS
    credited: Fraction = Fraction(0)
    released: str = ""
    """Why the session is over."""
    payments: int = 0
    faults: list[str] = field(default_factory=list)
    _rand: int = 1
    _began: Fraction | None = None
    _charged: int = 0
    _seen: set[tuple[bytes, int]] = field(default_factory=set)
    _current: OrchestratorInfo | None = None

    @property
    def price(self) -> int:
        """Wei a second."""
        return PRICE if self.unit is PriceUnit.SECONDS else PIXEL_PRICE

    @property
    def seconds_left(self) -> Fraction:
        """Seconds of the session that are paid and not used yet."""
        assert self._began is not None, "it is reserved"
        return self.credited / self.price - (self.clock() - self._began)

    def challenge(self) -> OrchestratorInfo:
        return self._fresh(self.price)

    def begin(self, live: LivePayment) -> None:
        """The session runs, with its first payment."""
        self._book(live)
        self._began = self.clock()

    # what a payee's client calls

    async def reserve(
        self, offer: RunnerOffer, challenge: Challenge, *, payment: str, seg_creds: str
    ) -> RunnerSession:
        self.debit()
        live = LivePayment(payment, seg_creds, SignerState("", ""))
        if self._began is not None and not self.released:
            raise SessionTaken("session exists")
        if self._nonces(live) & self._seen:
            raise Refused(403 if self.dialect == "node" else 400, "invalid payment")
        self.begin(live)
        return RunnerSession.of_former_answer(offer.url, challenge.manifest_id)

    async def pay(
        self, url: str, info: OrchestratorInfo, *, payment: str, seg_creds: str
    ) -> OrchestratorInfo | None:
        fault = self._fault()
        self.debit()
        if self.released:
            raise NoSuchSession("session not found")
        live = LivePayment(payment, seg_creds, SignerState("", ""))
        if self._nonces(live) & self._seen:
            raise AlreadySeen("seen") if self.dialect == "go" else Refused(403, "invalid payment")
        self._book(live)
        if fault == "unanswered":
            raise UnknownOutcome("no answer")
        if self.dialect == "node":
            return self._current
        return self._fresh(0 if self.payments == 2 else self.price)

    async def refresh(self, info: OrchestratorInfo, manifest_id: str) -> OrchestratorInfo:
        fault = self._fault()
        if self.dialect == "go" and self.payments < 2:
            raise Refused(409, "fixed price not found for session")
        fresh = self._fresh(self.price)
        if fault == "unanswered":
            raise UnknownOutcome("no answer")
        return fresh

    def debit(self) -> None:
        """Debit what is due by now: go-livepeer each 5 s, a node each second."""
        if self._began is None:
            return
        every = 5 if self.dialect == "go" else 1
        while not self.released and self._began + self._charged + every <= self.clock():
            self._charged += every
            if self.credited < self._charged * self.price:
                self.released = f"the second {self._charged} is not covered"

    def _fault(self) -> str:
        fault = self.faults.pop(0) if self.faults else ""
        if fault in ("lost", "busy"):
            raise Unreachable(fault)
        return fault

    def _fresh(self, price: int) -> OrchestratorInfo:
        self._rand += 1
        self._current = orchestrator_info(
            price=price or self.price,
            ticket_seconds=self.ticket_seconds,
            rand=self._rand,
            unit=self.unit,
            expiration_block=floor(self.clock() / BLOCK) + PARAMS_LIFE,
            session_id=MANIFEST,
        )
        if price == self.price:
            return self._current
        message = livepeer_pb2.OrchestratorInfo.FromString(self._current.raw)
        message.price_info.pricePerUnit = price
        return OrchestratorInfo.parse(message.SerializeToString(), unit=self.unit)

    def _nonces(self, live: LivePayment) -> set[tuple[bytes, int]]:
        message = livepeer_pb2.Payment.FromString(live.payment_bytes)
        rand = message.ticket_params.recipient_rand_hash
        return {(rand, one.sender_nonce) for one in message.ticket_sender_params}

    def _book(self, live: LivePayment) -> None:
        message = livepeer_pb2.Payment.FromString(live.payment_bytes)
        params, nonces = message.ticket_params, self._nonces(live)
        assert all(0 < nonce <= 600 for _, nonce in nonces), "more tickets than one hash takes"
        self._seen |= nonces
        value = ticket.expected_value(
            int.from_bytes(params.face_value, "big"), int.from_bytes(params.win_prob, "big")
        )
        self.credited += len(nonces) * value
        self.payments += 1


def answer_of(call: Coroutine[Any, Any, T]) -> T:
    """What a call gives that waits for nothing, as those of the models."""
    try:
        call.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("it waits for something")
