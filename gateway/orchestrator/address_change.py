"""An orchestrator that answers under another address than the one that it was paid under."""

from __future__ import annotations

from collections.abc import Callable, Collection

import structlog

from gateway.candidates.verdict import Verdict
from gateway.orchestrator.discovery import Listing
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.selection import Refusal
from gateway.orchestrator.urls import is_loopback, place

log = structlog.get_logger("orchestrators")


class AddressChange:
    """Passes over who was paid under another address: OrchestratorInfo is signed by nobody.

    `paid_as` tells the address that a host and port was last paid under. `accepted` are the operator's
    `-orchAcceptAddressChange`: hosts with ports, or new addresses (lower case). An orchestrator on loopback
    may change its address, and one whose address the operator has pinned is held to that.
    """

    def __init__(self, paid_as: Callable[[str], str | None], accepted: Collection[str] = ()) -> None:
        self._paid_as = paid_as
        self._accepted = accepted
        self._warned: set[tuple[str, str]] = set()

    def check(self, listing: Listing, info: OrchestratorInfo) -> Refusal | None:
        """The verdict on an orchestrator; None where its address is the former one, or may be another."""
        at = place(listing.addr)
        former = self._paid_as(at)
        if former in (None, info.recipient) or listing.pinned or is_loopback(listing.addr):
            return None
        if at in self._accepted or info.recipient.lower() in self._accepted:
            return None
        if (at, info.recipient) not in self._warned:
            self._warned.add((at, info.recipient))
            log.warning(
                "orchestrator asks to be paid under another address",
                addr=listing.addr,
                paid_as=former,
                asks_as=info.recipient,
                accept=f"-orchAcceptAddressChange {at}",
            )
        return (
            Verdict.ADDRESS_CHANGED,
            f"it was paid as {former} and now asks to be paid as {info.recipient}: "
            f"-orchAcceptAddressChange {at} accepts that",
        )
