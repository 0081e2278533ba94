"""The pool's orchestrators as candidates: what is thought of each, and who comes first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from gateway.candidates.suspension import Suspension
from gateway.candidates.trust import Trust
from gateway.candidates.verdict import Verdict
from gateway.eth_rate import PriceNow, wei_now
from gateway.orchestrator.discovery import Listing
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.member import Member
from gateway.orchestrator.members import Members
from gateway.orchestrator.selection import Check, OrchestratorCandidate, Refusal, judge, rank
from gateway.orchestrator.urls import place


class Judge:
    """Gives verdicts: on an answer, on a member with its suspensions and trust, and on all of them together.

    `checks` are made of each answer after those of model and price. `clock` is monotonic seconds.
    """

    def __init__(
        self,
        *,
        model: str,
        ceiling: PriceNow,
        checks: Sequence[Check],
        trust: Trust,
        clock: Callable[[], float],
    ) -> None:
        self._model = model
        self._price = ceiling
        self._checks = checks
        self._trust = trust
        self._clock = clock

    @property
    def _ceiling(self) -> Fraction | None:
        return wei_now(self._price)

    def answer(self, listing: Listing, info: OrchestratorInfo) -> Refusal:
        """The verdict on an answer: available, or why not."""
        verdict, detail = judge(info, self._model, self._ceiling)
        if verdict is Verdict.AVAILABLE:
            for check in self._checks:
                refusal = check(listing, info)
                if refusal is not None:
                    return refusal
        return verdict, detail

    def candidates(
        self, members: Members, model: str | None = None, *, only: str | None = None
    ) -> list[OrchestratorCandidate]:
        """All orchestrators with their verdicts, the usable ones first and best first. Without I/O.

        `only` leaves the one that it names (address, URL or Ethereum address). Where nobody else is known,
        suspensions for a fault are ignored, except of who was paid and showed nothing.
        """
        known = [self._candidate(member) for member in members]
        forgivable = self._mark_suspended(known, members)
        self._mark_untrusted(known, members)
        if not any(candidate.usable for candidate in known):
            for candidate, reason in forgivable:
                why = f"suspension ignored, no other is usable: {reason}"
                candidate.set_verdict(Verdict.AVAILABLE, why)
            self._mark_untrusted(known, members)
        if only is not None:
            known = [candidate for candidate in known if candidate.named(only)]
        if model is not None and model != self._model:
            for candidate in known:
                why = f"the gateway asks orchestrators for the model {self._model} only"
                candidate.set_verdict(Verdict.MODEL_NOT_OFFERED, why)
        return rank(known)

    def _candidate(self, member: Member) -> OrchestratorCandidate:
        candidate = member.candidate(self._model, self._ceiling)
        candidate.proven = self._trust.record(self.key(member)).proven
        if candidate.usable and member.info is not None:
            candidate.set_verdict(*self.answer(member.listing, member.info))
        if candidate.usable and member.room(self._model) == 0:
            candidate.set_verdict(Verdict.NO_CAPACITY, "our own streams are taking the room that it has left")
            candidate.starts_under_way = True
        return candidate

    def _mark_untrusted(self, known: list[OrchestratorCandidate], members: Members) -> None:
        if self._ceiling is None:
            return
        for candidate in known:
            why = self._trust.why_wait(self.key(members[candidate.addr])) if candidate.usable else ""
            if why:
                candidate.set_verdict(Verdict.UNTRUSTED, why)

    def suspension(self, member: Member, now: float) -> Suspension | None:
        """Why it is passed over now, if it is."""
        return self._trust.suspension(self.key(member)) or member.skip.active(now)

    def _mark_suspended(
        self, known: list[OrchestratorCandidate], members: Members
    ) -> list[tuple[OrchestratorCandidate, str]]:
        """Make suspended ones unusable. Returns those whose faults are forgivable, and the faults."""
        now = self._clock()
        forgivable: list[tuple[OrchestratorCandidate, str]] = []
        for candidate in known:
            suspension = self.suspension(members[candidate.addr], now)
            if suspension is None or not candidate.usable:
                continue
            why = f"{suspension.reason}; suspended for another {suspension.seconds_left(now):.0f} s"
            candidate.set_verdict(Verdict.SET_ASIDE if suspension.is_fault else Verdict.NO_CAPACITY, why)
            if suspension.is_fault and suspension.forgivable:
                forgivable.append((candidate, suspension.reason))
        return forgivable

    def key(self, member: Member) -> str:
        """What its faults and deliveries are counted by."""
        return self.payee(member.listing.addr, "" if member.info is None else member.info.recipient)

    def payee(self, addr: str, recipient: str) -> str:
        """The same, of who is to be paid as `recipient` at this address: else the address."""
        return self._trust.payee(place(addr), recipient) or addr
