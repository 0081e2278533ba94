"""Reasons for refusing a request; `http.py` maps them to statuses."""

from __future__ import annotations


class Refusal(Exception):
    """A refused request; the text is sent to the caller."""


class BadJob(Refusal):
    """The request's body is malformed."""


class NoCapacity(Refusal):
    """No capacity for the model."""


class UnreadablePayment(Refusal):
    """The payment header does not decode."""


class BadCredentials(Refusal):
    """The segment credentials' signature, token or capabilities are invalid."""


class TicketRefused(Refusal):
    """A ticket is invalid; those before it in the payment are credited, those after it are only noted."""


class NonceSeen(TicketRefused):
    """A ticket with this nonce was received before."""


class ParamsExpired(TicketRefused):
    """The ticket params have expired: the ticket is not credited, and redeemed all the same if it wins."""


class InsufficientBalance(Refusal):
    """The first payment is below one ticket's expected value."""


class WorkerFailed(Refusal):
    """The runner did not accept the job."""


class UnknownSession(Refusal):
    """No payment was ever received for that sender and manifest id."""
