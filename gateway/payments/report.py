"""The ledger's sessions, payments and sums as rows of JSON, tables and CSV: wei as text, times as RFC 3339.

Wei are exact in the ledger and rounded towards zero here, once. A ticket's exact value is its face value
times its win probability over 2^256 - 1.
"""

from __future__ import annotations

from typing import Any

from gateway import money
from gateway.payments.ledger_rows import LedgerPayment, LedgerSession, SignerCall, Total, utc
from gateway.payments.steps import Outcome
from gateway.payments.verify import Verification

Row = dict[str, Any]


def session_row(session: LedgerSession) -> Row:
    """One session: who was paid for what, how much of it is certain, and why it ended."""
    row, closed = session.row, session.closed
    return {
        "session": row["id"],
        "stream": row["stream"],
        "stream_id": row["stream_id"],
        "request_id": row["request_id"],
        "orchestrator": row["orchestrator_address"],
        "url": row["orchestrator_url"],
        "flow": "runner" if row["app"] else "job",
        "app": row["app"],
        "opened_at": utc(row["wall_ns"]),
        "closed_at": utc(closed["wall_ns"]) if closed else None,
        "reason": closed["reason"] if closed else None,
        "price_wei_per_second": money.text(row["price"]),
        "payments": session.total.payments,
        "tickets": session.total.tickets,
        **_sums(session.total.wei),
        "owed_wei": money.whole_wei(closed["owed"]) if closed and closed["owed"] is not None else None,
    }


def payment_row(session: LedgerSession, payment: LedgerPayment) -> Row:
    """One payment: its tickets and its outcome. The session of a live runner is a secret, and is left out."""
    row, secret = payment.row, bool(session.row["app"])
    return {
        "session": row["session_id"],
        "stream_id": session.row["stream_id"],
        "number": row["number"],
        "signed_at": utc(payment.signed_at),
        "outcome": str(payment.outcome),
        "tickets": row["tickets"],
        "ticket_wei": money.whole_wei(row["ticket_ev"]),
        "wei": money.whole_wei(row["value"]),
        "price_wei_per_second": money.text(row["price"]),
        "face_value_wei": money.text(row["face_value"]),
        "win_prob": money.text(row["win_prob"]),
        "first_nonce": row["first_nonce"],
        "last_nonce": row["last_nonce"],
        "recipient_rand_hash": row["recipient_rand_hash"],
        "manifest_id": None if secret else row["manifest_id"] or None,
    }


def step_rows(payment: LedgerPayment) -> list[Row]:
    """The steps of a payment, in order."""
    return [
        {"step": step["step"], "at": utc(step["wall_ns"]), "detail": step["detail"] or None}
        for step in payment.steps
    ]


def signer_call_row(call: SignerCall) -> Row:
    """One call to the signer: its fee where it is known, else what it may be at most."""
    return {
        "at": utc(call.wall_ns),
        "session": call.session.row["id"],
        "stream_id": call.session.row["stream_id"],
        "number": call.number,
        "call": str(call.call),
        "tickets": call.tickets,
        "fee_wei": None if call.value is None else money.whole_wei(call.value),
        "max_fee_wei": None if call.most is None else money.whole_wei(call.most),
        "orchestrator": call.session.row["orchestrator_address"],
        "detail": call.detail or None,
    }


def total_row(total: Total) -> Row:
    """Sums over the payments of one day, orchestrator or stream."""
    return {
        "key": total.key,
        "sessions": len(total.sessions),
        "payments": total.payments,
        "tickets": total.tickets,
        **_sums(total.wei),
    }


def session_json(session: LedgerSession) -> Row:
    """A session with its payments and their steps."""
    payments = [
        {**payment_row(session, payment), "steps": step_rows(payment)} for payment in session.payments
    ]
    left_out = session.total.payments - len(payments)
    return {**session_row(session), "payments": payments, "payments_left_out": left_out}


def verification_row(verification: Verification) -> Row:
    """What was checked, and the number of findings."""
    return {
        "sessions": verification.sessions,
        "open_sessions": verification.open_sessions,
        "payments": verification.payments,
        **_sums(verification.wei),
        "findings": len(verification.findings),
    }


def _sums(wei: dict[Outcome, Any]) -> Row:
    return {f"{outcome}_wei": money.whole_wei(wei[outcome]) for outcome in Outcome}
