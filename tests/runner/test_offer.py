"""Lists of live runners in both dialects, and what is no offer."""

from __future__ import annotations

import json
from contextlib import suppress
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.candidates.verdict import Verdict
from gateway.money import PIXELS_PER_SECOND
from gateway.runner.offer import MAX_RUNNERS, RunnerOffer, Unit, parse_discovery
from gateway.runner.selection import judge

BASE = "https://one.example:8935"
RUNNER: dict[str, Any] = {
    "url": f"{BASE}/apps/r1/session",
    "app": "livepeer-example/echo",
    "capacity": 4,
    "capacity_used": 1,
    "capacity_available": 3,
    "mode": "persistent",
    "gpu": {"id": "0", "name": "L4", "vram_mb": 24000},
    "price_info": {"price": 1388888888888, "currency": "wei", "unit": "seconds"},
}


def offers(*runners: Any) -> list[RunnerOffer]:
    body = json.dumps([{"address": BASE, "runners": list(runners)}])
    return parse_discovery(body.encode(), BASE)


def priced(price: Any, unit: str, **more: Any) -> dict[str, Any]:
    return RUNNER | {"price_info": {"price": price, "currency": "wei", "unit": unit, **more}}


def test_an_offer_has_where_to_reserve_for_what_price_and_how_much_room() -> None:
    (offer,) = offers(RUNNER)
    assert (offer.url, offer.app, offer.room, offer.gpu) == (RUNNER["url"], RUNNER["app"], 3, "L4")
    assert (offer.price, offer.unit) == (1388888888888, Unit.SECONDS)


def test_a_serverless_runner_names_no_mode_and_is_not_reserved_as_a_persistent_one() -> None:
    unnamed = {key: value for key, value in RUNNER.items() if key != "mode"}
    plain, serverless = offers(unnamed, {**unnamed, "url": f"{BASE}/scope", "version": "serverless-1.2"})
    assert (plain.mode, serverless.mode) == ("persistent", "serverless")
    refusal = judge(serverless, Fraction(10**15))
    assert refusal is not None and refusal[0] is Verdict.BAD_ANSWER and "serverless" in refusal[1]


@pytest.mark.parametrize(
    ("runner", "price", "unit"),
    [
        (priced(50234, "720p-pixel-seconds"), 50234 * PIXELS_PER_SECOND, Unit.PIXELS),
        (priced(7, "fixed"), None, Unit.FIXED),
        (priced(0, "", currency=""), 0, None),  # livepeer/node without prices
        ({key: value for key, value in RUNNER.items() if key != "price_info"}, 0, None),
        (priced(5, "seconds", price_usd=0.123456789012345678901234567890), 5, Unit.SECONDS),
    ],
)
def test_prices_are_per_second_in_exact_wei(
    runner: dict[str, Any], price: int | None, unit: Unit | None
) -> None:
    (offer,) = offers(runner)
    assert (offer.price, offer.unit) == (None if price is None else Fraction(price), unit)


@pytest.mark.parametrize(
    "runner",
    [
        None,
        {},
        RUNNER | {"app": ""},
        RUNNER | {"app": 7},
        RUNNER | {"url": "ftp://one.example/x"},
        RUNNER | {"url": "https://user:secret@one.example/x"},
        priced(-1, "seconds"),
        priced(True, "seconds"),
        priced("7", "seconds"),
        priced(10**40, "seconds"),
        priced(1, "minutes"),
        priced(1, "seconds", currency="usd"),
    ],
)
def test_an_entry_that_makes_no_sense_is_left_out(runner: Any) -> None:
    assert [offer.url for offer in offers(runner, RUNNER)] == [RUNNER["url"]]


def test_orchestrators_without_runners_and_unknown_fields_are_no_error() -> None:
    body = json.dumps(
        [{"address": BASE}, {"runners": None}, 7, {"new": 1, "runners": [RUNNER | {"new": []}]}]
    )
    assert len(parse_discovery(body.encode(), BASE)) == 1


def test_a_list_has_a_limit() -> None:
    assert len(offers(*[RUNNER] * (MAX_RUNNERS + 1))) == MAX_RUNNERS


def test_runners_of_other_apps_do_not_count_towards_the_limit() -> None:
    runners = [*[RUNNER | {"app": "other"}] * MAX_RUNNERS, RUNNER]
    body = json.dumps([{"address": BASE, "runners": runners}]).encode()
    assert [one.app for one in parse_discovery(body, BASE, apps={RUNNER["app"]})] == [RUNNER["app"]]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_offers_or_a_value_error(body: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(parse_discovery(body, BASE), list)
