"""What is remembered of one orchestrator, and when it is asked again."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest

from gateway.candidates.verdict import Verdict
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.discovery import Listing
from gateway.orchestrator.errors import BadAnswer, NoCapacity, Unreachable
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.member import Member

InfoMaker = Callable[..., livepeer_pb2.OrchestratorInfo]
WALL = 1_800_000_000.0
CEILING = Fraction(10**15)


def answered(orchestrator_info: InfoMaker, *, token_life: float = 1800, at: float = 0.0) -> Member:
    member = Member(Listing("o.example:1"))
    message = orchestrator_info("https://o.example:2", expiration=int(WALL + token_life))
    info = OrchestratorInfo.parse(message.SerializeToString())
    member.answered(info, asked_at=at - 0.02, now=at, wall=WALL)
    return member


def test_an_info_is_given_to_one_job_only(orchestrator_info: InfoMaker) -> None:
    member = answered(orchestrator_info)
    assert member.use(1.0, max_age=60) is member.info
    assert member.use(1.0, max_age=60) is None
    assert member.candidate("comfystream", CEILING).usable, "it still tells the price"


def test_an_info_that_is_too_old_is_given_to_nobody(orchestrator_info: InfoMaker) -> None:
    assert answered(orchestrator_info).use(60.0, max_age=60) is None


def test_an_info_whose_token_the_signer_would_refuse_is_given_to_nobody(orchestrator_info: InfoMaker) -> None:
    assert answered(orchestrator_info, token_life=190).use(9.9, max_age=60) is not None
    assert answered(orchestrator_info, token_life=190).use(10.0, max_age=60) is None


def test_a_token_that_is_old_on_arrival_means_clocks_that_differ(orchestrator_info: InfoMaker) -> None:
    member = answered(orchestrator_info, token_life=-5000)
    assert member.use(30.0, max_age=60) is not None
    assert member.pause(60, anybody_usable=True) == 60


def test_it_is_asked_again_well_before_its_token_runs_out(orchestrator_info: InfoMaker) -> None:
    assert answered(orchestrator_info).pause(60, anybody_usable=True) == 60
    assert answered(orchestrator_info, token_life=190).pause(60, anybody_usable=True) == 5
    assert answered(orchestrator_info, token_life=181).pause(60, anybody_usable=True) == 2


def test_failures_are_asked_about_ever_more_rarely(orchestrator_info: InfoMaker) -> None:
    member = answered(orchestrator_info)
    pauses = []
    for _ in range(9):
        member.failed(Unreachable("gone"))
        pauses.append(member.pause(60, anybody_usable=True))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert member.pause(60, anybody_usable=False) == 4, "nobody else: its return matters"


def test_one_that_is_full_is_asked_every_15_seconds_and_usable_once_a_job_there_is_over(
    orchestrator_info: InfoMaker,
) -> None:
    member = answered(orchestrator_info)
    pauses = []
    for _ in range(6):
        member.failed(NoCapacity("full"))
        pauses.append(member.pause(60, anybody_usable=True))
    assert pauses == [1, 2, 4, 8, 15, 15]
    assert member.pause(60, anybody_usable=False) == 4
    member.room_again()
    assert member.candidate("comfystream", CEILING).usable
    assert member.use(1.0, max_age=60) is None, "it is asked on the spot"
    member.failed(NoCapacity("full"))
    assert member.pause(60, anybody_usable=True) == 1
    member.failed(Unreachable("gone"))
    member.room_again()
    assert member.pause(60, anybody_usable=True) == 2, "which has nothing to do with room"


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (Unreachable("gone"), Verdict.UNREACHABLE),
        (NoCapacity("full"), Verdict.NO_CAPACITY),
        (BadAnswer("garbage"), Verdict.BAD_ANSWER),
    ],
)
def test_a_failure_keeps_the_price_and_gives_nothing_out(
    orchestrator_info: InfoMaker, error: Unreachable, verdict: Verdict
) -> None:
    member = answered(orchestrator_info)
    member.failed(error)
    candidate = member.candidate("comfystream", CEILING)
    assert (candidate.verdict, candidate.detail) == (verdict, error.detail)
    assert (candidate.price, candidate.url) == (1000, "https://o.example:2")
    assert member.use(0.0, max_age=60) is None


def test_one_that_never_answered_is_not_reached_yet() -> None:
    candidate = Member(Listing("o.example:1")).candidate("comfystream", CEILING)
    assert (candidate.verdict, candidate.url) == (Verdict.UNREACHABLE, "https://o.example:1")
    assert candidate.detail == "it has not answered yet"


def test_operators_see_age_round_trip_and_address(orchestrator_info: InfoMaker) -> None:
    member = answered(orchestrator_info)
    told = member.json(member.candidate("comfystream", CEILING), None, now=12.34)
    assert told == {
        "url": "https://o.example:2",
        "price_wei_per_second": "1000",
        "verdict": "available",
        "detail": "",
        "addr": "o.example:1",
        "address": "0x0101010101010101010101010101010101010101",
        "ticket_wei": "1000",
        "warm": True,
        "rtt_ms": 20.0,
        "age_s": 12.3,
        "set_aside": None,
    }
