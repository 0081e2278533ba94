"""The network's orchestrators as a source of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from structlog.typing import FilteringBoundLogger

from gateway.network.job import OrchestratorJob
from gateway.network.models import ModelNetworks
from gateway.network.resources import NetworkResources
from gateway.orchestrator.selection import OrchestratorCandidate
from gateway.payments.billing import first_payment
from gateway.payments.errors import LedgerUnavailable
from gateway.payments.spending import NOBODY, PublisherBudget, SpendLimitReached
from gateway.reason import Ended, NoRoom
from gateway.stream.seam import Candidate, JobHost, PublishRequest

NETWORK = "network"


class NetworkSource:
    """Jobs on the network's orchestrators, paid through the remote signer where there is one."""

    name = NETWORK

    def __init__(self, networks: ModelNetworks) -> None:
        self._networks = networks

    async def prepare(self, request: PublishRequest) -> None:
        await self._networks.prepare(request)

    def candidates(self, request: PublishRequest) -> list[Candidate]:
        network, publisher = self._network(request), request.publisher
        pool = network.pool
        known = [
            self._candidate(network, one) for one in pool.candidates(request.model, only=request.orchestrator)
        ]
        # who could not show this publisher's last stream comes after those who have not tried
        return sorted(
            known,
            key=lambda one: (not one.usable, pool.trust.failed_for(one.address, publisher)),
        )

    def admit(self, request: PublishRequest, candidates: Sequence[Candidate]) -> None:
        first_payments = [candidate.first_payment for candidate in candidates]
        self._check_affordable(first_payments, request.wei_limits.wei, request.budget)
        self._network(request).pool.ask_again(candidates[0].addr)  # while the key frame is awaited

    def open(
        self, candidate: Candidate, request: PublishRequest, host: JobHost, log: FilteringBoundLogger
    ) -> OrchestratorJob:
        job = OrchestratorJob(self._network(request), candidate, request, host, log)
        self._networks.job_opened(request.model, job)
        return job

    def suspend(self, candidate: Candidate, request: PublishRequest, failure: Ended) -> None:
        pool = self._network(request).pool
        if isinstance(failure, NoRoom):
            pool.no_room(candidate.addr, failure.detail)
        else:
            pool.suspend(
                candidate.addr,
                failure.detail,
                address=candidate.address,
                took_pay=candidate.paid_without_picture,
                publisher=request.publisher,
            )

    def forgive(self, candidate: Candidate, request: PublishRequest, failure: Ended) -> None:
        self._network(request).pool.forgive(candidate.addr, request.publisher, address=candidate.address)

    def reasons_not_ready(self) -> list[str]:
        pool = self._networks.default.pool
        try:
            self._check_affordable([_first_payment(one) for one in pool.candidates() if one.usable])
        except (SpendLimitReached, LedgerUnavailable) as error:
            return [str(error)]
        return pool.reasons_not_ready()

    def _check_affordable(
        self,
        first_payments: Sequence[Fraction],
        limit: int | None = None,
        budget: PublisherBudget = NOBODY,
    ) -> None:
        """Check the cheapest of these first payments; `limit` is the stream's own, in wei."""
        costs = [cost for cost in first_payments if cost]
        payments = self._networks.default.payments
        if payments is not None and costs:
            payments.check_affordable(min(costs), limit, budget)

    def _network(self, request: PublishRequest) -> NetworkResources:
        """The request's model's; the default's, whose candidates do not offer it, where there is none."""
        return self._networks.find(request.model) or self._networks.default

    def _candidate(self, network: NetworkResources, one: OrchestratorCandidate) -> Candidate:
        return Candidate(
            source=self,
            url=one.url,
            addr=one.addr,
            price=one.price,
            first_payment=Fraction(0) if network.payments is None else _first_payment(one),
            verdict=one.verdict,
            detail=one.detail,
            address=network.pool.payee(one.addr, one.recipient),
            proven=one.proven or not one.price,
            starts_under_way=one.starts_under_way,
        )


def _first_payment(one: OrchestratorCandidate) -> Fraction:
    return first_payment(one.price, one.ticket_ev) if one.price and one.ticket_ev else Fraction(0)
