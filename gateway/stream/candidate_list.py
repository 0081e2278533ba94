"""The candidates of one stream: which is the best one now, and what status says of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.candidates.verdict import Verdict
from gateway.reason import ChooseAgain, Ended
from gateway.stream.seam import Candidate, PublishRequest
from gateway.stream.sources import JobSources
from gateway.stream.swap import Attempts


class CandidateList:
    """Looks for candidates, and leaves out those that failed this stream. `now` is monotonic seconds."""

    def __init__(
        self,
        sources: JobSources,
        request: PublishRequest,
        candidates: Sequence[Candidate],
        *,
        first_retry: float,
    ) -> None:
        self.newest = list(candidates)
        """As they were when the active job's candidate was looked for."""
        self._sources = sources
        self._request = request
        self._attempts = Attempts(first_retry)
        self._changed: set[str] = set()
        """Whose offer was found changed since a job was last live."""
        self._showed_nothing: dict[str, tuple[Candidate, Ended]] = {}
        self._params_refused: dict[str, Ended] = {}
        self._was_shown = False
        self._paid_without_picture = False
        """Whether a first payment has brought nothing since: those who have delivered go first then."""

    def best(
        self, params: Mapping[str, Any], now: float, *, again: bool, free: bool = False
    ) -> Candidate | None:
        """The best one for a stream with these parameters, with `free` only one that costs no first payment.

        `again` allows those that failed before.
        """
        self.newest = self._look(params)
        if self._paid_without_picture:
            self.newest.sort(key=lambda candidate: not (candidate.usable and candidate.proven))
        for candidate in self.newest:
            if candidate.usable and not (free and candidate.first_payment):
                why_not = self._attempts.why_not(candidate.key, now, again=again)
                if not why_not:
                    return candidate
                candidate.set_verdict(Verdict.SET_ASIDE, why_not)
        return None

    def other_than(self, active: Candidate, params: Mapping[str, Any], now: float) -> Candidate | None:
        """The best one on which a job could stand by for the active one."""
        for candidate in self._look(params):
            other = candidate.usable and candidate.key != active.key
            if other and not self._attempts.why_not(candidate.key, now, again=False):
                return candidate
        return None

    def has_turn(self, now: float, *, again: bool) -> bool:
        """Whether one of the newest will be usable in its turn; `again` as in `best`."""
        return any(
            (
                candidate.verdict is Verdict.UNTRUSTED
                or (candidate.verdict is Verdict.NO_CAPACITY and candidate.starts_under_way)
            )
            and not self._attempts.why_not(candidate.key, now, again=again)
            for candidate in self.newest
        )

    def choose(self, candidate: Candidate) -> None:
        """The active job runs there."""
        self._set_verdict(candidate, Verdict.CHOSEN, "")

    def reject(self, candidate: Candidate, failure: Ended) -> None:
        """A job there failed."""
        self._set_verdict(candidate, Verdict.SET_ASIDE, failure.detail)

    def retry_later(self, candidate: Candidate, failure: Ended, now: float) -> None:
        """A job there did not start: it is tried again after a while, after a changed offer once at once."""
        self._paid_without_picture |= candidate.paid_without_picture
        if isinstance(failure, ChooseAgain) and candidate.key not in self._changed:
            self._changed.add(candidate.key)
        else:
            self._attempts.failed(candidate.key, failure.detail, now)

    def never_retry(self, candidate: Candidate, failure: Ended) -> None:
        """It is not tried again for this stream."""
        self._attempts.left(candidate.key, failure.detail)

    def showed_nothing(self, candidate: Candidate, failure: Ended) -> None:
        """A job there took the stream's pictures and gave none back."""
        self._showed_nothing[candidate.key] = candidate, failure

    def refused_params(self, candidate: Candidate, failure: Ended) -> None:
        """The worker there did not take the stream's parameters."""
        self._params_refused[candidate.key] = failure

    @property
    def params_refusal(self) -> str:
        """Why nobody else is tried: two workers refused the stream's parameters. Empty where they did not."""
        said = [failure.detail for failure in self._params_refused.values()]
        return f"the stream's parameters were refused: {'; '.join(said)}" if len(said) > 1 else ""

    @property
    def unshown(self) -> str:
        """How the end of a stream begins that several could not show: none of them is to blame then."""
        several = len(self._showed_nothing) > 1 and not self._was_shown
        return "no worker could show this stream: " if several else ""

    def job_is_live(self) -> None:
        """Failed starts before it no longer count."""
        self._was_shown = True
        self._attempts.succeeded()
        self._changed.clear()
        self._params_refused.clear()
        self._paid_without_picture = False

    def stream_ended(self, ended: Ended, *, showed_picture: bool) -> None:
        """Say of the candidate that had the stream how that went, and forgive those who could not show it."""
        if self.unshown:
            for candidate, failure in self._showed_nothing.values():
                candidate.source.forgive(candidate, self._request, failure)
        outcome = (
            "it had the stream until the end" if showed_picture else "no picture came from it until the end"
        )
        for candidate in self.newest:
            if candidate.verdict is Verdict.CHOSEN:
                candidate.detail = f"{outcome}: {ended.detail}"

    def _look(self, params: Mapping[str, Any]) -> list[Candidate]:
        return self._sources.candidates(replace(self._request, params=params))

    def _set_verdict(self, wanted: Candidate, verdict: Verdict, detail: str) -> None:
        """For the one in `newest`: `wanted` may have been looked up at another time."""
        for candidate in self.newest:
            if candidate.key == wanted.key:
                candidate.set_verdict(verdict, detail)
