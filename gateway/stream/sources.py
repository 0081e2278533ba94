"""Which kind of job a stream gets: the kinds as a list of named sources, and the order to try them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from gateway.payments.errors import LedgerUnavailable
from gateway.payments.spending import SpendLimitReached
from gateway.stream.seam import Candidate, JobSource, PublishRequest, TooManyModels, UnknownModel


@dataclass(frozen=True)
class Preference:
    """The sources for a stream that names none: `first`, and with `fallback` the others after it.

    Those in `alike` count as one: their candidates are used by price.
    """

    first: str
    fallback: bool
    alike: frozenset[str] = frozenset()

    def order(self, names: Sequence[str]) -> list[list[str]]:
        """The sources to try, of all these, as groups that are alike."""
        first = [name for name in names if self._group(name) == self._group(self.first)]
        others = [name for name in names if name not in first]
        if not self.fallback:
            return [first]
        alike = [name for name in others if name in self.alike]
        return [first, *([alike] if alike else []), *([name] for name in others if name not in alike)]

    def _group(self, name: str) -> str:
        return min(self.alike) if name in self.alike else name


class JobSources:
    """All kinds of jobs. What a publisher asks for comes before the operator's preference."""

    def __init__(self, sources: Sequence[JobSource], preference: Preference) -> None:
        self._by_name = {source.name: source for source in sources}
        self._groups = [
            [self._by_name[name] for name in names] for names in preference.order(list(self._by_name))
        ]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of all kinds; any other name that a publisher asks for is one candidate's."""
        return tuple(self._by_name)

    def candidates(self, request: PublishRequest) -> list[Candidate]:
        """All candidates for this request with a verdict, the usable ones first."""
        asked = request.orchestrator
        if asked is not None and asked not in self._by_name:
            return self._named(request)
        groups = self._groups if asked is None else [[self._by_name[asked]]]
        anybody = replace(request, orchestrator=None)
        found = [candidate for group in groups for candidate in _by_price(group, anybody)]
        return sorted(found, key=lambda candidate: not candidate.usable)

    async def prepare(self, request: PublishRequest) -> None:
        """Have the sources look for candidates with the request's model.

        Raises UnknownModel or TooManyModels where none of them can.
        """
        sources, refusals = self._asked(request), []
        for source in sources:
            try:
                await source.prepare(request)
            except (UnknownModel, TooManyModels) as refusal:
                refusals.append(refusal)
        if len(refusals) == len(sources):
            raise refusals[0]

    def _asked(self, request: PublishRequest) -> list[JobSource]:
        """The sources that could have candidates for this request."""
        asked = request.orchestrator
        if asked is None:
            return [source for group in self._groups for source in group]
        return [self._by_name[asked]] if asked in self._by_name else list(self._by_name.values())

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
        for source in (source for group in self._groups for source in group):
            why_not = source.reasons_not_ready()
            if not why_not:
                return []
            reasons += why_not
        return reasons


def _by_price(group: Sequence[JobSource], request: PublishRequest) -> list[Candidate]:
    """The candidates of sources that are alike, the cheapest first where several have usable ones."""
    found = [list(source.candidates(request)) for source in group]
    together = [candidate for candidates in found for candidate in candidates]
    if sum(any(one.usable for one in candidates) for candidates in found) < 2:
        return together
    return sorted(together, key=lambda one: one.price or Fraction(0))
