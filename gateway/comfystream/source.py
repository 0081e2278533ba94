"""The operator's own ComfyStream servers as a source of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from structlog.typing import FilteringBoundLogger

from gateway.candidates.verdict import Verdict
from gateway.comfystream import prompts
from gateway.comfystream.errors import BadParams
from gateway.comfystream.job import ComfyJob
from gateway.comfystream.resources import ComfyResources
from gateway.comfystream.servers import COMFYSTREAM, ComfyCandidate
from gateway.reason import Ended, NoRoom
from gateway.stream.seam import Candidate, JobHost, PublishRequest


class ComfySource:
    """Jobs on the operator's own servers: nothing is paid."""

    name = COMFYSTREAM

    def __init__(self, resources: ComfyResources) -> None:
        self._resources = resources

    async def prepare(self, request: PublishRequest) -> None:
        """Every model: the prompts say what is to be done."""

    def candidates(self, request: PublishRequest) -> list[Candidate]:
        found = self._resources.servers.candidates(request.orchestrator)
        try:
            prompts.wanted(request.params, self._resources.template)
        except BadParams as error:
            for one in found:
                one.set_verdict(Verdict.BAD_PARAMS, str(error))
        return [self._candidate(one) for one in found]

    def admit(self, request: PublishRequest, candidates: Sequence[Candidate]) -> None:
        """Every stream: nothing is paid."""

    def open(
        self, candidate: Candidate, request: PublishRequest, host: JobHost, log: FilteringBoundLogger
    ) -> ComfyJob:
        return ComfyJob(self._resources, candidate, request, host, log)

    def suspend(self, candidate: Candidate, request: PublishRequest, failure: Ended) -> None:
        if not isinstance(failure, NoRoom):
            self._resources.servers.suspend(candidate.addr, failure.detail)

    def forgive(self, candidate: Candidate, request: PublishRequest, failure: Ended) -> None:
        self._resources.servers.forgive(candidate.addr, failure.detail)

    def reasons_not_ready(self) -> list[str]:
        return self._resources.servers.reasons_not_ready()

    def _candidate(self, one: ComfyCandidate) -> Candidate:
        return Candidate(
            source=self,
            url=one.url,
            addr=one.url,
            price=Fraction(0),
            kind=COMFYSTREAM,
            verdict=one.verdict,
            detail=one.detail,
            restart=self._resources.restart if len(self._resources.servers) == 1 else 0.0,
        )
