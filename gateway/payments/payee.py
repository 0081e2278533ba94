"""Who is paid, as far as a payment session calls it."""

from __future__ import annotations

from typing import Protocol

from gateway.orchestrator.info import OrchestratorInfo


class Payee(Protocol):
    """The calls to an orchestrator that payments need. Each raises an OrchestratorError."""

    @property
    def capabilities(self) -> bytes:
        """What signing calls carry, serialised."""

    async def get_info(self, addr: str, *, ignore_capacity: bool = False) -> OrchestratorInfo:
        """The newest price and ticket params."""

    async def deliver_payment(
        self, info: OrchestratorInfo, *, payment: str, seg_creds: str
    ) -> OrchestratorInfo:
        """Deliver a payment; the answer is for the next one."""

    async def refresh_payment(
        self, info: OrchestratorInfo, *, sender: str, manifest_id: str
    ) -> OrchestratorInfo:
        """Ticket params at the price that the session started with."""
