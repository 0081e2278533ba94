"""Live runners as a source of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from structlog.typing import FilteringBoundLogger

from gateway.candidates.verdict import Verdict
from gateway.payments.billing import first_payment
from gateway.payments.errors import LedgerUnavailable
from gateway.payments.spending import SpendLimitReached
from gateway.reason import Ended, NoRoom
from gateway.runner.job import RunnerJob
from gateway.runner.resources import RunnerResources
from gateway.runner.selection import RunnerCandidate, rules
from gateway.runner.session_details import RUNNER
from gateway.stream.seam import Candidate, JobHost, PublishRequest, UnknownModel


class RunnerSource:
    """Jobs on live runners, paid through the remote signer where there is one."""

    name = RUNNER

    def __init__(self, resources: RunnerResources) -> None:
        self._resources = resources

    async def prepare(self, request: PublishRequest) -> None:
        apps = self._resources.apps
        if request.model not in apps:
            raise UnknownModel(f"no app serves the model {request.model[:140]!r}", list(apps))

    def candidates(self, request: PublishRequest) -> list[Candidate]:
        app = self._resources.apps.get(request.model)
        if app is None:
            return []
        pool, publisher = self._resources.pool, request.publisher
        known = [self._candidate(one) for one in pool.candidates(app, only=request.orchestrator)]
        refused = self._resources.refused_starts
        for one in known:
            why_not = refused.why_not(one.address, publisher) if one.usable else ""
            if why_not:
                one.set_verdict(Verdict.SET_ASIDE, why_not)

        def failed(one: Candidate) -> bool:
            """Whether it could not show this publisher's last stream: others are tried before it."""
            return pool.trust.failed_for(one.address, publisher) or refused.has_refused(
                one.address, publisher
            )

        return sorted(known, key=lambda one: (not one.usable, failed(one)))

    def admit(self, request: PublishRequest, candidates: Sequence[Candidate]) -> None:
        payments = self._resources.payments
        costs = [one.first_payment for one in candidates if one.first_payment]
        if payments is not None and costs:
            payments.check_affordable(min(costs), request.wei_limits.wei, request.budget)

    def open(
        self, candidate: Candidate, request: PublishRequest, host: JobHost, log: FilteringBoundLogger
    ) -> RunnerJob:
        return RunnerJob(self._resources, candidate, request, host, log)

    def suspend(self, candidate: Candidate, request: PublishRequest, failure: Ended) -> None:
        pool = self._resources.pool
        if isinstance(failure, NoRoom):
            pool.no_room(candidate.addr, failure.detail)
            return
        pool.suspend(
            candidate.addr,
            failure.detail,
            address=candidate.address,
            took_pay=candidate.paid_without_picture,
            publisher=request.publisher,
        )

    def forgive(self, candidate: Candidate, request: PublishRequest, failure: Ended) -> None:
        self._resources.pool.trust.forgive(candidate.address, request.publisher)

    def reasons_not_ready(self) -> list[str]:
        payments = self._resources.payments
        usable = [one for one in self._resources.pool.candidates() if one.usable]
        costs = [cost for one in usable if (cost := self._first_payment(one))]
        try:
            if payments is not None and costs:
                payments.check_affordable(min(costs))
        except (SpendLimitReached, LedgerUnavailable) as error:
            return [str(error)]
        return self._resources.pool.reasons_not_ready()

    def _candidate(self, one: RunnerCandidate) -> Candidate:
        return Candidate(
            source=self,
            url=one.offer.url,
            addr=one.offer.url,
            price=one.offer.price,
            first_payment=self._first_payment(one),
            kind=RUNNER,
            verdict=one.verdict,
            detail=one.detail,
            address=self._resources.pool.payee(one.offer),
            proven=one.proven,
        )

    def _first_payment(self, one: RunnerCandidate) -> Fraction:
        """Wei that a start costs at least: tickets are known only after a challenge."""
        if self._resources.payments is None or not one.offer.price:
            return Fraction(0)
        opening = rules(one.offer).opening
        if one.info is not None and one.info.price and one.info.ticket_ev:
            return first_payment(one.info.price, one.info.ticket_ev, opening)
        return opening * one.offer.price
