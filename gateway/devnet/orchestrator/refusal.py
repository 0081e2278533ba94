"""Why an orchestrator refuses; the HTTP side knows each one's status."""

from __future__ import annotations


class Refusal(Exception):
    """A request that is not served; the text is what the caller is told."""


class BadJob(Refusal):
    """The request's body is not what it should be."""


class NoCapacity(Refusal):
    """Every place for the model is taken."""


class UnreadablePayment(Refusal):
    """The payment header does not decode."""


class BadCredentials(Refusal):
    """The segment credentials are not signed by the sender, or their token or capabilities do not hold."""


class TicketRefused(Refusal):
    """A ticket is not acceptable; those before it in the same payment count."""


class NonceSeen(TicketRefused):
    """A ticket with this nonce was received before."""

    def __init__(self) -> None:
        super().__init__("invalid ticket senderNonce: already seen")


class InsufficientBalance(Refusal):
    """The first payment does not even cover one ticket's worth of stream."""


class WorkerFailed(Refusal):
    """The runner did not take the job."""


class UnknownSession(Refusal):
    """No payment was ever received for that sender and manifest id."""
