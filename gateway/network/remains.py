"""What a former run of the gateway left of a job on an orchestrator."""

from __future__ import annotations

import asyncio
from fractions import Fraction

from structlog.typing import FilteringBoundLogger

from gateway.candidates.verdict import Verdict
from gateway.network.job import OrchestratorJob
from gateway.network.job_details import read_urls
from gateway.network.models import ModelNetworks
from gateway.network.resources import NetworkResources
from gateway.network.source import NetworkSource
from gateway.orchestrator.client import OrchestratorClient
from gateway.orchestrator.discovery import Listing
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.selection import Refusal
from gateway.paid_job.former_run import FormerRun
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.saved_jobs import FormerJob
from gateway.payments.saved_session import SavedSession
from gateway.stream.seam import Candidate, JobHost, Json, PublishRequest
from gateway.trickle.publisher import delete_channel


class OrchestratorRemains:
    """Read from `details`. Raises ValueError."""

    def __init__(
        self,
        networks: ModelNetworks,
        source: NetworkSource,
        details: Json,
        request: PublishRequest,
        former: FormerJob,
        saved: SavedSession,
    ) -> None:
        self._networks = networks
        self._source = source
        self._request = request
        self._former = former
        self._urls = read_urls(details)
        self._info = saved.orchestrator_info
        self._network: NetworkResources = networks.default

    @property
    def started(self) -> bool:
        return self._urls is not None

    async def reopen(self) -> None:
        self._network = await self._networks.reopen(self._request.model)

    @property
    def payments(self) -> PaymentResources | None:
        payments = self._network.payments
        return None if payments is None else payments.now()

    @property
    def payee(self) -> OrchestratorClient:
        return self._network.orchestrators

    def refusal(self, info: OrchestratorInfo) -> Refusal | None:
        refusal = self._network.pool.judge(Listing(self._former.job.addr), info)
        return None if refusal[0] is Verdict.AVAILABLE else refusal

    def keep(self, payer: Payer) -> None:
        self._network.first_payments.keep(self._former.recipient, payer)

    def candidate(self, payer: Payer, price: Fraction) -> Candidate:
        return Candidate(
            source=self._source,
            url=payer.info.url,
            addr=self._former.job.addr,
            address=self._former.recipient,
            price=price,
        )

    def job(
        self, candidate: Candidate, run: FormerRun, host: JobHost, log: FilteringBoundLogger
    ) -> OrchestratorJob:
        assert self._urls is not None, "it has started"
        job = OrchestratorJob(
            self._network, candidate, self._request, host, log, former=run, former_urls=self._urls
        )
        self._networks.job_opened(self._request.model, job)
        return job

    async def give_back(self) -> None:
        """Close the channels: what is not gone on with would keep the room for minutes."""
        if self._urls is None:
            return
        network = self._networks.default
        http = network.orchestrators.http_for(self._info)
        urls = (self._urls.publish_url, self._urls.control_url)
        answered = await asyncio.gather(*(delete_channel(http, url) for url in urls))
        for url, done in zip(urls, answered, strict=True):
            if not done:
                network.left_channels.add(http, url)
