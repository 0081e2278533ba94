"""What all jobs on live runners share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from gateway.aio.inside import Reach
from gateway.aio.left_calls import LeftCalls
from gateway.candidates.refused_starts import RefusedStarts
from gateway.payments.first_payments import FirstPayments
from gateway.payments.resources import PaymentResources
from gateway.runner.client import RunnerClient
from gateway.runner.pool import RunnerPool
from gateway.runner.profile import AppProfile
from gateway.runner.reserve import RunnerSession
from gateway.stream.seam import Candidate


@dataclass(frozen=True)
class RunnerResources:
    """The client, the known runners, the apps' profiles, and what they are paid from."""

    client: RunnerClient
    pool: RunnerPool
    apps: Mapping[str, str]
    """The app for each name that a publisher may give."""
    profiles: Mapping[str, AppProfile]
    """One for each of the apps."""
    payments: PaymentResources | None
    """None where nothing is paid."""
    first_payments: FirstPayments = field(default_factory=FirstPayments)
    refused_starts: RefusedStarts = field(default_factory=RefusedStarts)
    left_sessions: LeftCalls = field(default_factory=lambda: LeftCalls("left-sessions"))
    """Sessions that are yet to be stopped."""

    def start_refused(self, candidate: Candidate, publisher: str | None, why: str) -> None:
        """An app was paid and did not take the start, maybe because of this publisher's parameters."""
        address, trust = candidate.address, self.pool.trust
        delivered = trust.record(address).delivered
        if self.refused_starts.refused(address, publisher, why, delivered=delivered):
            several = f"it was paid and refused the starts of several publishers: {why}"
            self.pool.suspend(
                candidate.url, several, address=address, took_pay=True, publisher=publisher or ""
            )

    async def stop(self, offer_url: str, session: RunnerSession, reach: Reach) -> None:
        """End a session at the runner of this offer, now or once its orchestrator answers."""

        async def stop_later() -> bool:
            over = await self.client.stop(session.control_url, reach)
            if over:
                self.pool.room_changed(offer_url, freed=True)
                structlog.get_logger("runners").info("left session stopped", runner=offer_url)
            return over

        if not await self.client.stop(session.control_url, reach):
            self.left_sessions.add(session.control_url, stop_later)
