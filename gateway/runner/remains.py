"""What a former run of the gateway left of a session on a live runner."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from structlog.typing import FilteringBoundLogger

from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.selection import Refusal
from gateway.paid_job.former_run import FormerRun
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.saved_jobs import FormerJob
from gateway.payments.saved_session import NotResumable, SavedSession
from gateway.runner.job import RunnerJob
from gateway.runner.payee import SessionPayee
from gateway.runner.reserve import Challenge
from gateway.runner.resources import RunnerResources
from gateway.runner.session_details import RUNNER, SessionDetails
from gateway.runner.source import RunnerSource
from gateway.stream.seam import Candidate, JobHost, Json, PublishRequest

DEBIT_INTERVAL = 5
"""Seconds that a session which nobody pays outlasts its credit by at most."""


class RunnerRemains:
    """Read from `details`. Raises ValueError."""

    def __init__(
        self,
        resources: RunnerResources,
        source: RunnerSource,
        details: Json,
        request: PublishRequest,
        former: FormerJob,
        saved: SavedSession,
    ) -> None:
        self._resources = resources
        self._source = source
        self._request = request
        self._former = former
        self._left = SessionDetails.parse(details, saved.reach)
        challenge = Challenge(saved.orchestrator_info, saved.manifest_id, self._left.payment_url)
        self.payee = SessionPayee(resources.client, self._left.offer, challenge)
        if former.handed_out:
            self.payee.answer_lost(saved.payment)

    @property
    def started(self) -> bool:
        return self._left.session is not None

    async def reopen(self) -> None:
        app = self._left.offer.app
        if self._resources.apps.get(self._request.model) != app:
            raise NotResumable(f"the app {app} serves no {self._request.model!r} any more")

    @property
    def payments(self) -> PaymentResources | None:
        payments = self._resources.payments
        return None if payments is None else payments.now()

    def refusal(self, info: OrchestratorInfo) -> Refusal | None:
        return self._resources.pool.refusal(self._left.offer, info)

    def keep(self, payer: Payer) -> None:
        if self._former.handed_out:  # the session may be reserved, and fill the runner
            payer.start_unanswered = True
            seconds = float(payer.start_may_last) + DEBIT_INTERVAL
            self._resources.pool.may_hold_ours(self._left.offer, payer.info, seconds)
        self._resources.first_payments.keep(self._former.recipient, payer)

    def candidate(self, payer: Payer, price: Fraction) -> Candidate:
        url = self._left.offer.url
        return Candidate(
            source=self._source,
            url=url,
            addr=url,
            address=self._former.recipient,
            price=price,
            kind=RUNNER,
        )

    def job(
        self, candidate: Candidate, run: FormerRun, host: JobHost, log: FilteringBoundLogger
    ) -> RunnerJob:
        left = replace(self._left, offer=replace(self._left.offer, price=candidate.price))
        return RunnerJob(self._resources, candidate, self._request, host, log, former=run, left=left)

    async def give_back(self) -> None:
        if self._left.session is not None:
            offer = self._left.offer
            await self._resources.stop(offer.url, self._left.session, offer.reach)
