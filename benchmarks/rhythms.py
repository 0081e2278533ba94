"""What ten minutes of a live runner cost by the rhythm of payments, on a simulated clock.

The signer bills whole seconds, rounded up at each call. Ours is the real payment session; the others call
again so many seconds after each payment was delivered, as the network's SDK does every 3 s.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.actions import Deliver, Leave, Refresh, Sign, StartJob, Wait
from gateway.payments.payment import Payment
from gateway.payments.session import PaymentSession
from gateway.payments.signing_rules import SECOND_RULES, PaymentFlow
from harness.live_payment_models import LiveOrchestratorModel, LiveSignerModel, answer_of
from harness.payment_models import MANIFEST, PRICE, Status
from signer_client import LivePayment, SignerState

S = 10**9
MS = S // 1000
SECONDS = 600
SIGNER_TAKES = (20 * MS, 80 * MS)
ORCHESTRATOR_TAKES = (10 * MS, 40 * MS)
INTERVAL = 5 * S
RHYTHMS = {"the SDK's, every 3 s": 3, "plain, every 5 s": 5}


class Account:
    """One session's simulated clock and counterparts. The signer stamps payments half-way through."""

    def __init__(self, seed: int) -> None:
        self.now = 0
        self.signer = LiveSignerModel("node")
        self.orchestrator = LiveOrchestratorModel("node", lambda: Fraction(self.now, S))
        self.state: SignerState | None = None
        self.stamps: list[int] = []
        self._chance = random.Random(seed)

    def sign(self, info: OrchestratorInfo) -> LivePayment:
        took = self._chance.randrange(*SIGNER_TAKES)
        self.now += took // 2
        stamp = self.now
        self.now += took - took // 2
        live = self.signer.sign(info, self.state, Fraction(stamp, S), Fraction(stamp, S))
        self.stamps.append(stamp)
        self.state = live.state
        return live

    def wait_for_orchestrator(self) -> None:
        self.now += self._chance.randrange(*ORCHESTRATOR_TAKES)
        self.orchestrator.debit()
        assert not self.orchestrator.released, "the session was released for want of credit"

    def row(self, rhythm: str) -> dict[str, Any]:
        """What was billed from the first signing call to the last, with the opening left out."""
        assert self.state is not None
        passed = Fraction(self.stamps[-1] - self.stamps[0], S)
        billed = passed + Fraction(json.loads(base64.b64decode(self.state.state))["over"])
        return {
            "figure": f"{SECONDS} s of a live runner, by the rhythm of payments",
            "rhythm": rhythm,
            "payments": len(self.stamps),
            "seconds_passed": round(float(passed), 2),
            "seconds_billed": round(float(billed), 2),
            "wei_per_second_of_stream": int(billed * PRICE / passed),
            "over_percent": round(float(100 * (billed / passed - 1)), 2),
        }


def ours(seed: int) -> dict[str, Any]:
    account = Account(seed)
    session = PaymentSession(
        account.orchestrator.challenge(),
        interval=INTERVAL,
        ceiling=Fraction(PRICE),
        flow=PaymentFlow(SECOND_RULES, MANIFEST, "echo"),
    )
    while account.now < SECONDS * S:
        match session.next(account.now):
            case Wait(until):
                account.now = until
            case Sign() as sign:
                account.now += session.wait_to_call(account.now)
                session.calling(account.now)
                try:
                    live = account.sign(sign.info)
                except Status:
                    session.refresh_needed("480")
                    continue
                session.billing.answered(account.now)
                session.signed(Payment.read(live))
            case StartJob(payment):
                account.orchestrator.begin(payment.live)
                account.wait_for_orchestrator()
                session.started(MANIFEST, account.now)
            case Deliver(payment):
                account.wait_for_orchestrator()
                session.delivered(_pay(account, payment.live, session.info), account.now)
            case Refresh():
                account.wait_for_orchestrator()
                session.refreshed(answer_of(account.orchestrator.refresh(session.info, MANIFEST)))
            case Leave() as leave:
                raise AssertionError(leave)
    return account.row("ours")


def plain(seed: int, name: str, every: int) -> dict[str, Any]:
    account = Account(seed)
    info = account.orchestrator.challenge()
    account.orchestrator.begin(account.sign(info))
    account.wait_for_orchestrator()
    while account.now < SECONDS * S:
        account.now += every * S
        try:
            live = account.sign(info)
        except Status:
            info = answer_of(account.orchestrator.refresh(info, MANIFEST))
            live = account.sign(info)
        account.wait_for_orchestrator()
        info = _pay(account, live, info)
    return account.row(name)


def _pay(account: Account, live: LivePayment, info: OrchestratorInfo) -> OrchestratorInfo:
    answer = answer_of(account.orchestrator.pay("", info, payment=live.payment, seg_creds=""))
    assert answer is not None
    return answer


def measure(seed: int = 1) -> Iterator[dict[str, Any]]:
    """A row for ours, one for each other rhythm, and the exact fee."""
    yield ours(seed)
    for name, every in RHYTHMS.items():
        yield plain(seed, name, every)
    yield {
        "figure": f"{SECONDS} s of a live runner, by the rhythm of payments",
        "rhythm": "the exact fee",
        "wei_per_second_of_stream": PRICE,
        "over_percent": 0.0,
    }
