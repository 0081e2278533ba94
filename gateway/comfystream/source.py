"""The operator's own ComfyStream servers as a source of jobs."""

from __future__ import annotations

from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from gateway.candidates.verdict import Verdict
from gateway.comfystream import prompts
from gateway.comfystream.errors import BadParams
from gateway.comfystream.job import ComfyJob, ComfyResources
from gateway.comfystream.servers import ComfyCandidate
from gateway.media.frames import FrameSink
from gateway.media.gop import GopBuffer
from gateway.reason import Ended, NoRoom
from gateway.stream.seam import Ingest, PublishRequest


class ComfySource:
    """Jobs on the operator's own servers, behind the seam that the network's stand behind too."""

    def __init__(self, own: ComfyResources) -> None:
        self._own = own

    def candidates(self, request: PublishRequest, only: str | None = None) -> list[ComfyCandidate]:
        found = self._own.servers.candidates(only)
        try:
            prompts.wanted(request.params, self._own.template)
        except BadParams as error:
            for candidate in found:
                candidate.passed_over(str(error), Verdict.BAD_PARAMS)
        return found

    def set_aside(self, candidate: ComfyCandidate, failure: Ended) -> None:
        if not isinstance(failure, NoRoom):
            self._own.servers.set_aside(candidate, failure.detail)

    def open(
        self,
        candidate: ComfyCandidate,
        request: PublishRequest,
        sink: FrameSink,
        on_live: Callable[[], GopBuffer],
        ingest: Ingest,
        log: FilteringBoundLogger,
    ) -> ComfyJob:
        return ComfyJob(self._own, candidate, request, sink, on_live, ingest, log)

    def reasons_not_ready(self) -> list[str]:
        """Why no server would take a stream now, in a sentence each."""
        return self._own.servers.reasons_not_ready()

    def knows(self, url: str) -> bool:
        """Whether one of the servers has this URL."""
        return self._own.servers.knows(url)
