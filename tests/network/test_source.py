"""The network's orchestrators as a source of jobs: who can take one, and what its start costs."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.candidates.trust import Trust
from gateway.candidates.verdict import Verdict
from gateway.network.models import ModelNetworks
from gateway.network.resources import NetworkResources
from gateway.network.source import NetworkSource
from gateway.orchestrator.selection import OrchestratorCandidate
from gateway.payments.billing import PRELOAD
from gateway.payments.spending import PublisherBudget, SpendLimitReached, StreamLimits
from gateway.reason import Ended, EndReason, NoRoom
from gateway.stream.seam import PublishRequest

REQUEST = PublishRequest(
    "cam", "cam", "1", "m", orchestrator="o1", limits=StreamLimits(wei=7), publisher="ann"
)
TICKET = Fraction(10)


class Network:
    """A pool and the payments beside it, with the answers that a test gives."""

    def __init__(self) -> None:
        self.known = [self.candidate("o1", 3), self.candidate("o2", 2), self.candidate("free", 0)]
        self.asked: list[tuple[Any, ...]] = []
        self.suspended: list[tuple[Any, ...]] = []
        self.asked_again: list[str] = []
        self.first_payments: list[tuple[Fraction, int | None, str]] = []
        self.refusal: Exception | None = None
        self.not_ready = ["nobody is known"]
        self.trust = Trust()
        pool = SimpleNamespace(
            trust=self.trust,
            payee=lambda addr, recipient: recipient or addr,
            candidates=self._candidates,
            suspend=lambda addr, why, **known: self.suspended.append((addr, why, known)),
            ask_again=self.asked_again.append,
            no_room=lambda addr, why: self.suspended.append((addr, why, "no room")),
            reasons_not_ready=lambda: self.not_ready,
        )
        payments = SimpleNamespace(check_affordable=self._check_affordable)
        resources = NetworkResources(cast(Any, None), cast(Any, pool), cast(Any, None), cast(Any, payments))
        self.source = NetworkSource(ModelNetworks(["m"], lambda _: resources))

    def candidate(self, name: str, price: int) -> OrchestratorCandidate:
        ev = TICKET if price else None
        return OrchestratorCandidate(
            f"{name}:1",
            f"https://{name}",
            price=Fraction(price),
            ticket_ev=ev,
            detail=f"of {name}",
            recipient=f"0x{name}",
        )

    def _candidates(self, *wanted: str, only: str | None = None) -> list[OrchestratorCandidate]:
        self.asked.append((*wanted, only))
        return self.known

    def _check_affordable(self, first_payment: Fraction, limit: int | None, budget: PublisherBudget) -> None:
        self.first_payments.append((first_payment, limit, budget.publisher))
        if self.refusal is not None:
            raise self.refusal


def test_a_candidate_has_what_the_pool_knows_and_what_its_start_costs() -> None:
    network = Network()
    network.known[1].set_verdict(Verdict.NO_CAPACITY, "full")
    found = network.source.candidates(REQUEST)
    assert network.asked == [("m", "o1")]
    assert [(one.key, one.addr, one.price, one.usable, one.detail) for one in found] == [
        ("https://o1", "o1:1", 3, True, "of o1"),
        ("https://free", "free:1", 0, True, "of free"),
        ("https://o2", "o2:1", 2, False, "full"),
    ]
    assert [one.first_payment for one in found] == [PRELOAD * 3, 0, PRELOAD * 2]
    assert all(one.source is network.source for one in found)


def test_who_could_not_show_the_publishers_last_stream_comes_after_the_others() -> None:
    network = Network()
    network.trust.fault("0xo1", "no picture", took_pay=True, publisher="ann")
    assert [one.addr for one in network.source.candidates(REQUEST)] == ["o2:1", "free:1", "o1:1"]
    assert network.source.candidates(replace(REQUEST, publisher="bob"))[0].addr == "o1:1"


def test_a_stream_is_admitted_where_the_cheapest_first_payment_is_allowed() -> None:
    network = Network()
    network.source.admit(REQUEST, network.source.candidates(REQUEST))
    assert network.first_payments == [(PRELOAD * 2, 7, "ann")]
    network.refusal = SpendLimitReached("the last hour")
    with pytest.raises(SpendLimitReached):
        network.source.admit(REQUEST, network.source.candidates(REQUEST))
    network.source.admit(REQUEST, network.source.candidates(REQUEST)[2:])


def test_it_is_not_ready_where_no_first_payment_is_allowed_or_nobody_is_usable() -> None:
    network = Network()
    assert network.source.reasons_not_ready() == ["nobody is known"]
    assert network.first_payments == [(PRELOAD * 2, None, "")]
    network.refusal = SpendLimitReached("the last hour")
    assert network.source.reasons_not_ready() == ["the last hour"]


def test_a_failure_suspends_for_a_fault_or_for_want_of_room() -> None:
    network = Network()
    candidate = network.source.candidates(REQUEST)[0]
    network.source.suspend(candidate, REQUEST, Ended(EndReason.ORCHESTRATOR_LOST, "lost"))
    network.source.suspend(candidate, REQUEST, NoRoom(EndReason.ORCHESTRATOR_LOST, "full"))
    candidate.paid_without_picture = True
    network.source.suspend(candidate, REQUEST, Ended(EndReason.ORCHESTRATOR_LOST, "no picture"))
    assert network.suspended == [
        ("o1:1", "lost", {"address": "0xo1", "took_pay": False, "publisher": "ann"}),
        ("o1:1", "full", "no room"),
        ("o1:1", "no picture", {"address": "0xo1", "took_pay": True, "publisher": "ann"}),
    ]
