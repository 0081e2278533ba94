"""The pool: which runners are usable, and what makes one pass."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from fractions import Fraction

import pytest

from gateway.aio.tasks import cancel, spawn
from gateway.candidates.verdict import Verdict
from gateway.http.schemas import ORCHESTRATORS
from gateway.orchestrator.errors import OfferChanged, OrchestratorError
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.selection import NEARLY
from gateway.reason import ChooseAgain
from gateway.runner.offer import RunnerOffer, Unit
from gateway.runner.pool import FRESH, UNASKED, RunnerPool
from gateway.runner.reserve import Challenge
from gateway.runner.reserving import check_challenge
from gateway.runner.selection import judge, price_refusal
from harness.payment_models import PRICE, orchestrator_info
from harness.waiting import eventually

APP = "acme/app"
CHEAP = RunnerOffer("https://a.example/apps/1/session", APP, room=1, price=Fraction(2), unit=Unit.SECONDS)
DEAR = replace(CHEAP, url="https://b.example/apps/1/session", price=Fraction(3))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class ScriptedList:
    name = "list"

    def __init__(self, *offers: RunnerOffer, lists_itself: bool = True, quick: bool = True) -> None:
        self.listed = list(offers)
        self.lists_itself = lists_itself
        self.quick = quick
        self.down = False
        self.reads = 0

    async def offers(self, apps: frozenset[str]) -> list[RunnerOffer]:
        self.reads += 1
        if self.down:
            raise OrchestratorError("no connection")
        return self.listed


async def nobody_is_paid(_: RunnerOffer) -> OrchestratorInfo | None:
    return None


async def pool_of(*lists: ScriptedList, ceiling: int = 10) -> tuple[RunnerPool, Clock]:
    clock = Clock()
    pool = RunnerPool(
        lists, frozenset({APP}), challenge=nobody_is_paid, ceiling=Fraction(ceiling), clock=clock
    )
    reading = spawn(pool.run(), name="pool")
    await eventually(
        lambda: (
            all(one.reads for one in lists) and not any(one.detail == UNASKED for one in pool.candidates())
        )
    )
    await cancel(reading)
    return pool, clock


def verdicts(pool: RunnerPool) -> list[tuple[str, Verdict]]:
    return [(one.offer.url[8], one.verdict) for one in pool.candidates()]


@pytest.mark.asyncio
async def test_the_cheapest_usable_one_comes_first_and_other_apps_are_not_looked_at() -> None:
    pool, _ = await pool_of(ScriptedList(DEAR, CHEAP, replace(CHEAP, url="https://c.example/x", app="other")))
    assert verdicts(pool) == [("a", Verdict.AVAILABLE), ("b", Verdict.AVAILABLE)]
    assert pool.candidates("other") == []


@pytest.mark.parametrize(
    ("offer", "verdict"),
    [
        (replace(CHEAP, price=Fraction(21, 2)), Verdict.PRICE_ABOVE_MAX),
        (replace(CHEAP, price=None, unit=Unit.FIXED), Verdict.BAD_ANSWER),
        (replace(CHEAP, mode="single-shot"), Verdict.BAD_ANSWER),
        (replace(CHEAP, room=0), Verdict.NO_CAPACITY),
    ],
)
@pytest.mark.asyncio
async def test_an_offer_that_cannot_be_used_has_a_verdict(offer: RunnerOffer, verdict: Verdict) -> None:
    pool, _ = await pool_of(ScriptedList(offer))
    assert verdicts(pool) == [("a", verdict)]
    assert len(pool.reasons_not_ready()) == 1
    with pytest.raises(OfferChanged):
        await pool.take(offer.url)


@pytest.mark.asyncio
async def test_a_list_that_fails_is_kept_and_an_orchestrator_that_does_not_answer_is_not_used() -> None:
    its_own, service = ScriptedList(CHEAP), ScriptedList(DEAR, lists_itself=False)
    pool, clock = await pool_of(its_own, service)
    its_own.down = service.down = True
    clock.now += FRESH + 1
    with pytest.raises(OfferChanged):
        await pool.take(CHEAP.url)
    assert (await pool.take(DEAR.url)).url == DEAR.url
    assert verdicts(pool) == [("b", Verdict.AVAILABLE), ("a", Verdict.UNREACHABLE)]


@pytest.mark.asyncio
async def test_all_that_is_shown_of_runners_is_described() -> None:
    pool, _ = await pool_of(ScriptedList(CHEAP))
    (shown,), (source,) = pool.state()["runners"], pool.state()["runner_sources"]
    described = ORCHESTRATORS["properties"]
    assert shown.keys() == described["runners"]["items"]["properties"].keys()
    assert source.keys() == described["runner_sources"]["items"]["properties"].keys()


@pytest.mark.asyncio
async def test_a_list_that_answers_slowly_is_not_waited_for_by_a_reserve() -> None:
    slow = ScriptedList(CHEAP, lists_itself=False, quick=False)
    pool, clock = await pool_of(slow)
    clock.now += FRESH + 1
    assert (await pool.take(CHEAP.url), slow.reads) == (CHEAP, 1)


@pytest.mark.asyncio
async def test_a_runner_that_asks_more_than_its_list_says_is_used_at_its_newest_price() -> None:
    pool, _ = await pool_of(ScriptedList(CHEAP, DEAR, lists_itself=False), ceiling=PRICE)
    dearer = orchestrator_info(price=PRICE)
    challenge = Challenge(dearer, "m", "https://a.example/payment")
    with pytest.raises(ChooseAgain, match="was chosen for 2"):
        check_challenge(pool, CHEAP, challenge, ceiling=Fraction(PRICE), chosen=Fraction(2))
    best, second = pool.candidates()
    assert (best.offer, second.offer) == (DEAR, replace(CHEAP, price=Fraction(PRICE)))
    check_challenge(pool, CHEAP, challenge, ceiling=Fraction(PRICE), chosen=Fraction(PRICE))


@pytest.mark.asyncio
async def test_who_took_pay_and_showed_nothing_is_not_used_even_where_nobody_else_is_left() -> None:
    pool, _ = await pool_of(ScriptedList(CHEAP))
    key = pool.payee(CHEAP)
    pool.suspend(CHEAP.url, "it went away", address=key, took_pay=False, publisher="ann")
    assert verdicts(pool) == [("a", Verdict.AVAILABLE)]  # forgiven, as nobody else is left
    pool.suspend(CHEAP.url, "it showed nothing", address=key, took_pay=True, publisher="ann")
    assert verdicts(pool) == [("a", Verdict.SET_ASIDE)]


@pytest.mark.asyncio
async def test_who_had_no_room_is_passed_over_until_a_session_there_is_over() -> None:
    pool, _ = await pool_of(ScriptedList(CHEAP))
    pool.no_room(CHEAP.url, "full")
    assert verdicts(pool) == [("a", Verdict.NO_CAPACITY)]
    pool.room_changed(CHEAP.url, freed=True)
    assert verdicts(pool) == [("a", Verdict.AVAILABLE)]


@pytest.mark.parametrize("listed", [(), (replace(CHEAP, room=0),)], ids=["unlisted", "full"])
@pytest.mark.asyncio
async def test_a_runner_that_may_hold_a_session_of_ours_has_room_for_one_start(
    listed: tuple[RunnerOffer, ...],
) -> None:
    pool, clock = await pool_of(ScriptedList(DEAR, *listed))
    full = [("a", Verdict.NO_CAPACITY)] * len(listed)
    for _ in range(2):
        pool.may_hold_ours(CHEAP, orchestrator_info(price=2), 10)
        assert verdicts(pool) == [("a", Verdict.AVAILABLE), ("b", Verdict.AVAILABLE)]
        assert (await pool.take(CHEAP.url)).url == CHEAP.url
        assert verdicts(pool) == [("b", Verdict.AVAILABLE), *full]
    pool.may_hold_ours(CHEAP, orchestrator_info(price=2), 10)
    clock.now += 10
    assert verdicts(pool) == [("b", Verdict.AVAILABLE), *full]


class Info:
    """As much of an OrchestratorInfo as its price."""

    def __init__(self, price: Fraction) -> None:
        self.price = price
        self.ticket_ev = Fraction(1)


@pytest.mark.parametrize(
    ("unit", "price", "refused"),
    [
        (Unit.SECONDS, Fraction(2), False),
        (Unit.SECONDS, Fraction(5, 2), False),  # discovery rounds down to whole wei
        (Unit.SECONDS, Fraction(3), True),
        (Unit.PIXELS, Fraction(2 + 27_647_999), False),
        (Unit.PIXELS, Fraction(2 + 27_648_000), True),
    ],
)
def test_a_challenge_may_be_dearer_than_the_offer_by_rounding_only(
    unit: Unit, price: Fraction, refused: bool
) -> None:
    offer = replace(CHEAP, unit=unit)
    why = price_refusal(offer, Info(price), Fraction(10**9), Fraction(2))  # type: ignore[arg-type]
    assert (why is not None) is refused


def test_a_challenge_one_wei_above_the_ceiling_is_refused() -> None:
    ceiling = Fraction(2)
    assert price_refusal(CHEAP, Info(ceiling), ceiling, ceiling) is None  # type: ignore[arg-type]
    assert price_refusal(CHEAP, Info(ceiling + Fraction(1, 10**9)), ceiling, ceiling)  # type: ignore[arg-type]


@pytest.mark.parametrize(("price", "advised"), [(Fraction(10_300), True), (Fraction(10_301), False)])
def test_only_a_price_that_is_near_the_ceiling_is_said_to_hold_the_cost_of_redeeming(
    price: Fraction, advised: bool
) -> None:
    ceiling = Fraction(10_000)
    listed = judge(replace(CHEAP, price=price), ceiling)
    asked = price_refusal(CHEAP, Info(price), ceiling, ceiling)  # type: ignore[arg-type]
    said = f"{price} wei per second, above the ceiling of 10000{NEARLY if advised else ''}"
    assert (listed, asked) == ((Verdict.PRICE_ABOVE_MAX, said), said)


@pytest.mark.asyncio
async def test_who_has_not_said_who_is_paid_is_not_used() -> None:
    asked = asyncio.Event()

    async def slow(_: RunnerOffer) -> OrchestratorInfo | None:
        await asked.wait()
        return None

    source = ScriptedList(CHEAP)
    pool = RunnerPool([source], frozenset({APP}), challenge=slow, ceiling=Fraction(10))
    reading = spawn(pool.run(), name="pool")
    await eventually(lambda: source.reads)
    await eventually(lambda: verdicts(pool) == [("a", Verdict.UNREACHABLE)])
    asked.set()
    await eventually(lambda: verdicts(pool) == [("a", Verdict.AVAILABLE)])
    await cancel(reading)
