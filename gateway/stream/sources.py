"""Which kind of job a stream gets: the network's orchestrators or the operator's own ComfyStream servers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from structlog.typing import FilteringBoundLogger

from gateway.comfystream.servers import ComfyCandidate
from gateway.comfystream.source import ComfySource
from gateway.media.frames import FrameSink
from gateway.media.gop import GopBuffer
from gateway.network.job import NetworkSource
from gateway.reason import Ended
from gateway.stream.seam import Candidate, Ingest, Job, PublishRequest

COMFYSTREAM, NETWORK = "comfystream", "network"
"""What a stream asks for with `orchestrator=`, beside the name of a single one."""


@dataclass(frozen=True)
class Preference:
    """What a stream gets that asks for nothing: one kind, or with `fallback` the other where that is full."""

    own_first: bool
    fallback: bool

    def order(self, asked: str | None) -> tuple[bool, ...]:
        """The kinds to try in order, True for the own servers."""
        if asked in (COMFYSTREAM, NETWORK):
            return (asked == COMFYSTREAM,)
        return (self.own_first, not self.own_first) if self.fallback else (self.own_first,)


class JobSources:
    """Both kinds as one source of jobs, each stream's own wish before the operator's."""

    def __init__(self, network: NetworkSource, own: ComfySource, preference: Preference) -> None:
        self._network = network
        self._own = own
        self._preference = preference

    def candidates(self, request: PublishRequest) -> Sequence[Candidate]:
        asked = request.orchestrator
        if asked is not None and self._own.knows(asked):
            return self._own.candidates(request, only=asked)
        if asked not in (None, COMFYSTREAM, NETWORK):
            return self._network.candidates(request)
        found: list[Candidate] = []
        for own in self._preference.order(asked):
            if own:
                found += self._own.candidates(request)
            else:
                found += self._network.candidates(replace(request, orchestrator=None))
        return sorted(found, key=lambda candidate: not candidate.usable)

    def admit(self, request: PublishRequest, candidates: Sequence[Candidate]) -> None:
        """Let a publisher in only where somebody could take the stream: free, or with a first payment.

        Raises what the network's own `admit` raises.
        """
        usable = [candidate for candidate in candidates if candidate.usable]
        if not any(isinstance(candidate, ComfyCandidate) for candidate in usable):
            self._network.admit(request, candidates)  # type: ignore[arg-type]

    def reasons_not_ready(self) -> list[str]:
        """Why nobody would take a stream that asks for nothing, a sentence each; empty when one would."""
        reasons: list[str] = []
        for own in self._preference.order(None):
            why_not = self._own.reasons_not_ready() if own else self._network.reasons_not_ready()
            if not why_not:
                return []
            reasons += why_not
        return reasons

    def set_aside(self, candidate: Any, failure: Ended) -> None:
        if isinstance(candidate, ComfyCandidate):
            self._own.set_aside(candidate, failure)
        else:
            self._network.set_aside(candidate, failure)

    def open(
        self,
        candidate: Any,
        request: PublishRequest,
        sink: FrameSink,
        on_live: Callable[[], GopBuffer],
        ingest: Ingest,
        log: FilteringBoundLogger,
    ) -> Job:
        source = self._own if isinstance(candidate, ComfyCandidate) else self._network
        return source.open(candidate, request, sink, on_live, ingest, log)
