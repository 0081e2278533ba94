"""Which job a payment session belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.payments.customer import ANYBODY, Customer


@dataclass(frozen=True, slots=True)
class JobIdentity:
    """One job: the stream that it serves and the orchestrator that it runs on."""

    stream: str
    """The stream's name."""
    stream_id: str
    request_id: str
    """One publish of the stream; its jobs on several orchestrators share it."""
    addr: str
    """The orchestrator as the gateway reaches it: an address from `-orchAddr`, or a server's URL."""
    customer: Customer = ANYBODY
    """Whom the stream is for."""
