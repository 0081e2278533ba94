"""Who is taken, in which order, and why the others are not."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.candidates.verdict import Verdict
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.errors import BadAnswer, NoCapacity, Refused, UnknownOutcome, Unreachable
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.selection import NEARLY, OrchestratorCandidate, judge, rank, verdict_of

InfoMaker = Callable[..., livepeer_pb2.OrchestratorInfo]

prices = st.fractions(min_value=0, max_value=10**18)
candidates = st.lists(
    st.builds(
        OrchestratorCandidate,
        addr=st.text("abcdef", min_size=1, max_size=4),
        url=st.just("https://o.example"),
        price=st.none() | prices,
        warm=st.booleans(),
        rtt=st.none() | st.floats(0, 5),
        verdict=st.sampled_from(Verdict),
    ),
    max_size=12,
)


def parsed(message: livepeer_pb2.OrchestratorInfo) -> OrchestratorInfo:
    return OrchestratorInfo.parse(message.SerializeToString())


@given(candidates)
def test_warm_comes_first_then_cheap_then_near(known: list[OrchestratorCandidate]) -> None:
    ranked = rank(known)
    usable = [c for c in ranked if c.usable]
    assert ranked[: len(usable)] == usable, "those that may not be used come last"
    for better, worse in pairwise(usable):
        assert better.warm >= worse.warm
        if better.warm == worse.warm:
            assert (better.price or 0) <= (worse.price or 0)
            if (better.price or 0) == (worse.price or 0):
                assert worse.rtt is None or (better.rtt is not None and better.rtt <= worse.rtt)


@given(candidates)
def test_nobody_is_lost_and_every_verdict_stays(known: list[OrchestratorCandidate]) -> None:
    ranked = rank(known)
    assert sorted(c.addr for c in ranked) == sorted(c.addr for c in known)
    assert sorted(c.verdict for c in ranked) == sorted(c.verdict for c in known)
    rejected = [c for c in ranked if not c.usable]
    assert rejected == sorted(rejected, key=lambda c: c.addr)


@given(st.integers(1, 10**18), st.integers(1, 10**12), st.data())
def test_a_price_at_the_ceiling_passes_and_any_above_it_does_not(
    orchestrator_info: InfoMaker, per_unit: int, pixels: int, data: st.DataObject
) -> None:
    message = orchestrator_info()
    message.price_info.pricePerUnit, message.price_info.pixelsPerUnit = per_unit, pixels
    info = parsed(message)
    assert info.price == Fraction(per_unit * 27_648_000, pixels)
    assert judge(info, "comfystream", info.price)[0] is Verdict.AVAILABLE
    below = info.price - data.draw(st.fractions(min_value=Fraction(1, 10**30), max_value=info.price))
    assert judge(info, "comfystream", below)[0] is Verdict.PRICE_ABOVE_MAX


def test_a_wei_per_second_above_the_ceiling_is_excluded_and_says_by_how_much(
    orchestrator_info: InfoMaker,
) -> None:
    verdict, detail = judge(parsed(orchestrator_info(price=10**15 + 1)), "comfystream", Fraction(10**15))
    assert verdict is Verdict.PRICE_ABOVE_MAX
    assert detail == f"1000000000000001 wei per second, above the ceiling of 1000000000000000{NEARLY}"
    assert (
        judge(parsed(orchestrator_info(price=10**15)), "comfystream", Fraction(10**15))[0].value
        == "available"
    )


def test_an_orchestrator_without_the_model_is_passed_over(orchestrator_info: InfoMaker) -> None:
    verdict, detail = judge(parsed(orchestrator_info(model="other")), "comfystream", Fraction(10**15))
    assert (verdict, detail) == (Verdict.MODEL_NOT_OFFERED, "it does not offer the model comfystream")


@pytest.mark.parametrize("field", ["price_info", "ticket_params", "auth_token"])
def test_on_the_paid_network_price_tickets_and_token_must_be_there(
    orchestrator_info: InfoMaker, field: str
) -> None:
    message = orchestrator_info()
    message.ClearField(field)  # type: ignore[arg-type]
    assert judge(parsed(message), "comfystream", Fraction(10**15))[0] is Verdict.BAD_ANSWER


def test_a_price_or_ticket_of_zero_cannot_be_paid_through_a_signer(orchestrator_info: InfoMaker) -> None:
    assert judge(parsed(orchestrator_info(price=0)), "comfystream", Fraction(1))[0] is Verdict.BAD_ANSWER
    worthless = orchestrator_info()
    worthless.ticket_params.face_value = b""
    assert judge(parsed(worthless), "comfystream", Fraction(10**15))[0] is Verdict.BAD_ANSWER


def test_where_nothing_is_paid_only_those_that_want_nothing_are_used(orchestrator_info: InfoMaker) -> None:
    free = orchestrator_info()
    free.ClearField("price_info")
    free.ClearField("ticket_params")
    assert judge(parsed(free), "comfystream", None)[0] is Verdict.AVAILABLE
    assert judge(parsed(orchestrator_info()), "comfystream", None)[0] is Verdict.PRICE_ABOVE_MAX


def test_each_error_is_a_verdict() -> None:
    assert verdict_of(NoCapacity("full")) is Verdict.NO_CAPACITY
    assert verdict_of(Unreachable("gone")) is Verdict.UNREACHABLE
    assert verdict_of(BadAnswer("garbage")) is Verdict.BAD_ANSWER
    assert verdict_of(Refused(None, "no")) is Verdict.BAD_ANSWER
    assert verdict_of(UnknownOutcome("?")) is Verdict.BAD_ANSWER


def test_the_status_form_writes_prices_as_exact_text() -> None:
    candidate = OrchestratorCandidate("o:1", "https://o:1", price=Fraction(1, 3))
    assert candidate.json() == {
        "url": "https://o:1",
        "price_wei_per_second": "1/3",
        "verdict": "available",
        "detail": "",
    }
    nothing: dict[str, Any] = OrchestratorCandidate(
        "o:1", "https://o:1", verdict=Verdict.UNREACHABLE, detail="gone"
    ).json()
    assert nothing["price_wei_per_second"] is None


def test_a_candidate_that_failed_a_start_says_so_and_the_next_can_be_chosen() -> None:
    first, second = rank(
        [OrchestratorCandidate("b:1", "https://b:1"), OrchestratorCandidate("a:1", "https://a:1")]
    )
    assert (first.addr, first.verdict, second.verdict) == ("a:1", Verdict.AVAILABLE, Verdict.AVAILABLE)
    first.set_verdict(Verdict.CHOSEN)
    first.set_verdict(Verdict.SET_ASIDE, "refused the payment")
    second.set_verdict(Verdict.CHOSEN)
    assert not first.usable
    assert (first.detail, str(first.verdict), str(second.verdict)) == (
        "refused the payment",
        "set_aside",
        "chosen",
    )


@pytest.mark.parametrize("name", ["o.example:1", "https://O.example:1/", "0xABCD"])
def test_a_candidate_is_named_by_address_url_or_ethereum_address(name: str) -> None:
    assert OrchestratorCandidate("o.example:1", "https://o.example:1", address="0xabcd").named(name)
    assert not OrchestratorCandidate("o.example:2", "https://o.example:2", address="0xabce").named(name)


def test_only_a_price_that_is_near_the_ceiling_is_said_to_hold_the_cost_of_redeeming(
    orchestrator_info: InfoMaker,
) -> None:
    info = parsed(orchestrator_info(price=10_000))
    assert NEARLY in judge(info, "comfystream", Fraction(9_901))[1]
    assert NEARLY not in judge(info, "comfystream", Fraction(9_000))[1]
