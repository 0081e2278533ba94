"""Reasons for refusing a request; `http.py` maps them to statuses."""

from __future__ import annotations


class OrchestratorRefusal(Exception):
    """A refused request; the text is sent to the caller."""


class BadJob(OrchestratorRefusal):
    """The request's body is malformed."""


class AtCapacity(OrchestratorRefusal):
    """No capacity for the model."""


class UnreadablePayment(OrchestratorRefusal):
    """The payment header does not decode."""


class BadCredentials(OrchestratorRefusal):
    """The segment credentials' signature, token or capabilities are invalid."""


class TicketRefused(OrchestratorRefusal):
    """A ticket is invalid; those before it in the payment are credited, those after it are only noted."""


class NonceSeen(TicketRefused):
    """A ticket with this nonce was received before."""


class ParamsExpired(TicketRefused):
    """The ticket params have expired: the ticket is not credited, and redeemed all the same if it wins."""


class InsufficientBalance(OrchestratorRefusal):
    """The first payment is below one ticket's expected value."""


class WorkerFailed(OrchestratorRefusal):
    """The runner did not accept the job."""


class UnknownSession(OrchestratorRefusal):
    """No payment was ever received for that sender and manifest id."""
