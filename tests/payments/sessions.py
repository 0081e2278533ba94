"""Payment sessions in the state that a test starts from."""

from __future__ import annotations

from fractions import Fraction

from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.actions import Leave, Sign, StartJob
from gateway.payments.payment import Payment
from gateway.payments.session import PaymentSession
from gateway.payments.timebase import NANOSECONDS
from gateway.reason import EndReason
from harness.payment_models import MANIFEST, PRICE, orchestrator_info, signed_payment

S = NANOSECONDS


def new_session(
    info: OrchestratorInfo | None = None, *, ceiling: int = 10 * PRICE, interval: int = 5 * S
) -> PaymentSession:
    return PaymentSession(info or orchestrator_info(), interval=interval, ceiling=Fraction(ceiling))


def sign_and_start(session: PaymentSession, now: int = 0, tickets: int = 60) -> None:
    """Bring a session to where its job runs and 60 s are credited."""
    sign = session.next(now)
    assert isinstance(sign, Sign)
    session.signed(Payment.read(signed_payment(sign.info, 1, tickets)))
    assert isinstance(session.next(now), StartJob)
    session.started(MANIFEST, now)


def signed(session: PaymentSession, now: int, first_nonce: int = 61, tickets: int = 5) -> Payment:
    sign = session.next(now)
    assert isinstance(sign, Sign)
    payment = Payment.read(signed_payment(sign.info, first_nonce, tickets, state=f'{{"seq": {sign.number}}}'))
    session.billing.check(payment, session.info, now)
    session.signed(payment)
    return payment


def leaves(session: PaymentSession, now: int = 0) -> EndReason:
    action = session.next(now)
    assert isinstance(action, Leave), action
    return action.reason
