"""Ledgers with sessions and payments of every outcome."""

from __future__ import annotations

from fractions import Fraction

from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger import Ledger, SessionRecord
from gateway.payments.ledger_rows import Grouping
from gateway.payments.payment import Payment
from gateway.payments.steps import Outcome
from gateway.reason import EndReason
from harness.payment_models import PRICE, SENDER_TEXT, orchestrator_info, signed_payment


def record(stream_id: str, orchestrator: str = "0xAA") -> SessionRecord:
    return SessionRecord(
        job=JobIdentity(stream="cam", stream_id=stream_id, request_id="r1", addr="127.0.0.1:8935"),
        sender=SENDER_TEXT,
        orchestrator_address=orchestrator,
        orchestrator_url="https://127.0.0.1:8935",
        price=Fraction(PRICE),
        ceiling=Fraction(PRICE),
        interval_ns=5 * 10**9,
    )


def payment(rand: int, first_nonce: int, tickets: int) -> Payment:
    return Payment.read(signed_payment(orchestrator_info(rand=rand), first_nonce, tickets))


async def pay(
    ledger: Ledger, session: str, number: int, made: Payment, *steps: str, price: Fraction = Fraction(PRICE)
) -> None:
    """Add a payment with these steps after its signing."""
    await ledger.intended(session, number)
    await ledger.signed(session, number, made, manifest_id="m" if number > 1 else "", price=price)
    for step in steps:
        if step == "delivered":
            await ledger.delivered(session, number)
        elif step == "credited":
            await ledger.credited(session, number)
        else:
            await getattr(ledger, step)(session, number, "why")


async def credited(ledger: Ledger, stream_id: str | None = None) -> Fraction:
    """The credited wei of one stream id, or of all."""
    totals = await ledger.reader.totals(Grouping.STREAM)
    wei = (total.wei[Outcome.CREDITED] for total in totals if stream_id in (None, total.key))
    return sum(wei, Fraction(0))


async def fill(ledger: Ledger) -> list[str]:
    """Three consistent sessions with credited, uncertain, refused and unspent wei."""
    one = await ledger.open_session(record("one"))
    await pay(ledger, one, 1, payment(1, 1, 60), "delivered", "credited")
    await pay(ledger, one, 2, payment(1, 61, 1), "delivered", "unknown", "delivered", "credited")
    await pay(ledger, one, 3, payment(2, 1, 1), "delivered", "unknown")
    await ledger.close_session(one, EndReason.ORCHESTRATOR_LOST, owed=Fraction(3 * PRICE, 7))
    two = await ledger.open_session(record("two", "0xBB"))
    await pay(ledger, two, 1, payment(3, 1, 60), "delivered", "refused")
    await ledger.close_session(two, EndReason.PAYMENT_REFUSED)
    three = await ledger.open_session(record("two", "0xAA"))
    await pay(ledger, three, 1, payment(4, 1, 60))
    await ledger.close_session(three, EndReason.PUBLISHER_LEFT)
    return [one, two, three]


async def history(ledger: Ledger, session_id: str = "") -> list[str]:
    """All steps of a session's payments, a call to the signer without one, and whether it was closed.

    Of the only session where no id is given.
    """
    found = [one async for one in ledger.reader.sessions() if session_id in ("", one.row["id"])]
    (session,) = found
    paid = [payment async for payment in ledger.reader.payments_of(session)]
    steps = [step["step"] for payment in paid for step in payment.steps]
    if (session.row["asked_number"] or 0) > len(paid):
        steps.append("intended")
    return [*steps, "closed"] if session.closed else steps
