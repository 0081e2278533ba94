"""Which kind of job a stream gets: the kinds as a list of named sources, and the order to try them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.payments.errors import LedgerUnavailable
from gateway.payments.spending import SpendLimitReached
from gateway.stream.seam import Candidate, JobSource, PublishRequest


@dataclass(frozen=True)
class Preference:
    """The sources for a stream that names none: `first`, and with `fallback` the others after it."""

    first: str
    fallback: bool

    def order(self, names: Sequence[str]) -> list[str]:
        """The sources to try, of all these."""
        others = [name for name in names if name != self.first]
        return [self.first, *others] if self.fallback else [self.first]


class JobSources:
    """All kinds of jobs. What a publisher asks for comes before the operator's preference."""

    def __init__(self, sources: Sequence[JobSource], preference: Preference) -> None:
        self._by_name = {source.name: source for source in sources}
        self._preferred = [self._by_name[name] for name in preference.order(list(self._by_name))]

    def candidates(self, request: PublishRequest) -> list[Candidate]:
        """All candidates for this request with a verdict, the usable ones first."""
        asked = request.orchestrator
        if asked is not None and asked not in self._by_name:
            return self._named(request)
        sources = self._preferred if asked is None else [self._by_name[asked]]
        anybody = replace(request, orchestrator=None)
        found = [candidate for source in sources for candidate in source.candidates(anybody)]
        return sorted(found, key=lambda candidate: not candidate.usable)

    def _named(self, request: PublishRequest) -> list[Candidate]:
        """What the first source has that knows one of the name."""
        for source in self._by_name.values():
            found = list(source.candidates(request))
            if found:
                return found
        return []

    def admit(self, request: PublishRequest, candidates: Sequence[Candidate]) -> None:
        """Check that one of the candidates could take the stream, now or in its turn: free or paid.

        Raises SpendLimitReached or LedgerUnavailable.
        """
        refusals: list[SpendLimitReached | LedgerUnavailable] = []
        admissible = [candidate for candidate in candidates if candidate.admissible]
        for source in self._by_name.values():
            own = [candidate for candidate in admissible if candidate.source is source]
            if not own:
                continue
            try:
                source.admit(request, own)
                return
            except (SpendLimitReached, LedgerUnavailable) as refusal:
                refusals.append(refusal)
        if refusals:
            raise refusals[0]

    def reasons_not_ready(self) -> list[str]:
        """Why nobody would take a stream that names no source, a sentence each; empty when one would."""
        reasons: list[str] = []
        for source in self._preferred:
            why_not = source.reasons_not_ready()
            if not why_not:
                return []
            reasons += why_not
        return reasons
