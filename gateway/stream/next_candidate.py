"""Where a stream's next active job goes, within its limits on swaps and on payments without a picture."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gateway.reason import ChooseAgain, Ended, EndReason, MoveAsked, NoRoom
from gateway.stream.candidate_list import CandidateList
from gateway.stream.job_slot import SupervisedStream
from gateway.stream.seam import Candidate
from gateway.stream.swap import StartsWithoutPicture, SwapBudget, SwapPolicy, SwapTiming

INPUT_RECENT = 1.0
"""Seconds since the last frame within which a publisher counts as sending."""


class NextCandidate:
    """Chooses the candidate of the next active job. `clock` is monotonic seconds.

    With `await_room` the first job may wait for room that another stream gives back; `make_room` is called
    where no candidate can be used, and says whether a job that is held gives its up. It keeps no reference
    to the stream, which holds it.
    """

    def __init__(
        self,
        candidates: CandidateList,
        *,
        policy: SwapPolicy,
        await_room: bool,
        make_room: Callable[[Sequence[Candidate]], bool],
        clock: Callable[[], float],
    ) -> None:
        self.was_live = False
        """Whether a job of this stream has shown a picture."""
        self._candidates = candidates
        self._timing = policy.timing
        self._await_room = await_room
        self._make_room = make_room
        self._clock = clock
        self._budget = SwapBudget(policy.max_swaps)
        self._paid_starts = StartsWithoutPicture(policy.max_paid_starts, policy.timing.first_pause)
        self._signer_until: float | None = None
        """Until when a silent signer is waited for; None where it answered the last live job."""
        self._restart = 0.0
        """Seconds that the last candidate with a live job may take to restart."""

    async def choose(self, stream: SupervisedStream, failures: Sequence[Ended]) -> Candidate:
        """The best candidate; after a live job's end one is waited for. Raises Ended where there is none.

        `failures` are those since a job was live, first the one that ended it.
        """
        if self._candidates.params_refusal:
            raise Ended(EndReason.NO_ORCHESTRATOR, self._candidates.params_refusal)
        patient = self.was_live or (self._await_room and not failures)
        patience = max(self._timing.patience, self._restart)
        patient_until = self._clock() + (patience if patient else 0)
        if self._signer_until is not None:
            patient_until = max(patient_until, self._signer_until)
        room_comes = False
        turn_until = self._clock() + self._timing.turn
        while True:
            await publisher_sends(stream, self._timing)
            now = self._clock()
            again = (self.was_live or room_comes) and now < patient_until
            refusal = self._paid_starts.refusal
            waits = self.was_live and self._paid_starts.pauses(now)
            free = bool(refusal) or waits
            candidate = self._candidates.best(stream.params, now, again=again, free=free)
            if candidate is not None:
                if self.was_live and not isinstance(failures[-1], MoveAsked):
                    self._budget.spend(failures[-1], now)
                return candidate
            if refusal:
                raise Ended(EndReason.NO_ORCHESTRATOR, self._candidates.unshown + refusal)
            if self._make_room(self._candidates.newest):
                room_comes = True
                patient_until = max(patient_until, now + self._timing.patience)
            has_turn = now < turn_until and self._candidates.has_turn(now, again=self.was_live)
            if now >= patient_until and not has_turn:
                raise self._no_candidate(failures)
            await asyncio.sleep(self._timing.poll)

    def _no_candidate(self, failures: Sequence[Ended]) -> Ended:
        if self.was_live or len(failures) == 1:
            return failures[0]
        said = "; ".join(failure.detail for failure in failures)
        said = self._candidates.unshown + said
        return Ended(EndReason.NO_ORCHESTRATOR, said or "no orchestrator can take this stream any more")

    def swap(self, failure: Ended) -> None:
        """Count a swap to the job that stood by. Raises Ended where there were too many."""
        if not isinstance(failure, MoveAsked):
            self._budget.spend(failure, self._clock())

    def job_over(self, candidate: Candidate, failure: Ended, *, live: bool, paid: bool) -> None:
        """The active job failed: `live` if it showed a picture, `paid` if a first payment was signed."""
        self._paid_starts.count(self._clock(), failure, live=live, paid=paid)
        if live:
            self._restart = candidate.restart
            self._signer_until = None
        elif self.was_live and _is_nobodys_fault(failure):
            self._budget.refund()

    def waits_for_signer(self, failure: Ended) -> bool:
        """Whether a stream that was live goes on although the signer did not answer for its job, now over."""
        if failure.reason is not EndReason.SIGNER_UNREACHABLE or not self.was_live:
            return False
        now = self._clock()
        if self._signer_until is None:
            self._signer_until = now + self._timing.signer
        return now < self._signer_until


def _is_nobodys_fault(failure: Ended) -> bool:
    """Whether a start cost nothing and says nothing of the candidate."""
    return failure.reason is EndReason.SIGNER_UNREACHABLE or isinstance(failure, NoRoom | ChooseAgain)


async def publisher_sends(stream: SupervisedStream, timing: SwapTiming) -> None:
    """Wait while the publisher is silent: a job without input would be paid for nothing."""
    while True:
        if stream.input_age() < INPUT_RECENT:
            return
        await asyncio.sleep(timing.poll)
