"""The devnet's flags and its price list."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from gateway.devnet.ai_models import read_ai_models, write_ai_models
from gateway.devnet.settings import DEVNET_FLAGS, DevnetSettings
from gateway.flags import FlagError, parse_flags

LIST_PRICE = 10**15


def settings(*argv: str) -> DevnetSettings:
    return DevnetSettings.from_parsed(parse_flags(DEVNET_FLAGS, argv, {}, program="livepeer-devnet"))


def refusal(*argv: str) -> str:
    with pytest.raises(FlagError) as caught:
        settings(*argv)
    return str(caught.value)


def test_the_defaults_are_the_documented_ones() -> None:
    made = settings()
    assert made.prices == (LIST_PRICE, 2 * LIST_PRICE)
    (model,) = made.models
    assert made.list_prices == {"comfystream": LIST_PRICE}
    assert (model.url, model.warm) == ("http://127.0.0.1:8188", True)
    assert (made.ticket_seconds, made.debit_interval, made.debit_rate, made.capacity) == (1, 1.0, 1, 64)
    assert (made.preload, made.block_time, made.token_life) == (60, 12, 1800)
    assert (made.effect, made.restart) == ("negative", False)


def test_the_first_orchestrator_has_the_list_price_and_every_other_twice_that() -> None:
    assert settings("-orchestrators", "4").prices == (LIST_PRICE, *[2 * LIST_PRICE] * 3)
    assert settings("-orchestrators", "1").prices == (LIST_PRICE,)


def test_the_last_price_is_repeated_and_surplus_ones_are_left_out() -> None:
    assert settings("-orchestrators", "4", "-prices", "1,5/2").prices == (
        1,
        Fraction(5, 2),
        Fraction(5, 2),
        Fraction(5, 2),
    )
    assert settings("-orchestrators", "1", "-prices", "1,2,3").prices == (1,)


def test_the_first_orchestrators_are_hostile_and_the_others_honest() -> None:
    argv = ("-orchestrators", "3", "-hostile", "no_room,drip")
    assert settings(*argv).hostile == ("no_room", "drip", "none")
    both = settings("-orchestrators", "1", "-runners", "2", "-hostile", "none,bait")
    assert (both.hostile, both.hostile_runners) == (("none",), ("bait", "none"))
    assert "names 2" in refusal("-orchestrators", "1", "-hostile", "no_room,drip")


def test_runners_may_stand_alone_and_prices_go_on_from_the_orchestrators_of_jobs() -> None:
    alone = settings("-orchestrators", "0", "-runners", "3")
    assert alone.runner_prices == (LIST_PRICE, 2 * LIST_PRICE, 2 * LIST_PRICE)
    assert alone.prices == ()
    both = settings("-orchestrators", "1", "-runners", "2", "-prices", "1,2")
    assert (both.prices, both.runner_prices) == ((1,), (2, 2))
    assert settings("-runners", "1").runner_prices == (LIST_PRICE,)
    assert settings("-prices", "1").runner_prices == ()


def test_the_signer_is_a_nodes_only_where_no_job_needs_another() -> None:
    assert settings("-dialect", "node", "-runners", "1").signer_dialect == "go"
    assert settings("-dialect", "node", "-runners", "1", "-orchestrators", "0").signer_dialect == "node"
    assert settings("-runners", "1", "-orchestrators", "0").signer_dialect == "go"


def test_a_node_has_no_price_by_720p_pixels() -> None:
    assert settings("-runnerUnit", "720p").runner_unit == "720p"
    assert "-runnerUnit" in refusal("-runnerUnit", "720p", "-dialect", "node")


def test_numbers_are_exact() -> None:
    assert settings("-ticketSeconds", "0.6").ticket_seconds == Fraction(3, 5)
    assert settings("-debitRate", "1/3").debit_rate == Fraction(1, 3)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("-tokenLife", "3m"), ("-tokenLife", "'3m'", "more than 3m")),
        (("-effect", "sepia"), ("-effect", "sepia", "negative, mirror, grey, none")),
        (("-hostile", "rude"), ("-hostile", "rude", "none, no_room")),
        (("-prices", "1e15"), ("-prices", "1e15", "whole numbers")),
        (("-prices", "1,,2"), ("-prices", "1,,2", "whole numbers")),
        (("-prices", "1/0"), ("-prices", "1/0")),
        (("-prices", f"{10**40 + 1}"), ("-prices", "64 bits")),
        (("-orchestrators", "0"), ("-orchestrators", "0", "1 to")),
        (("-runners", "33"), ("-runners", "33", "0 to 32")),
        (("-dialect", "rust"), ("-dialect", "rust", "go, node")),
        (("-blockTime", "0"), ("-blockTime", "'0'", "above 0")),
        (("-ticketSeconds", "0"), ("-ticketSeconds", "'0'", "above 0")),
        (("-ticketSeconds", "1/0"), ("-ticketSeconds", "1/0")),
        (("-ticketSeconds", "-1"), ("-ticketSeconds", "-1")),
        (("-aiModels", "/nowhere/aiModels.json"), ("-aiModels", "/nowhere", "cannot be read")),
    ],
)
def test_bad_usage_is_one_sentence_that_names_the_flag_and_the_value(
    argv: tuple[str, ...], words: tuple[str, ...]
) -> None:
    said = refusal(*argv)
    assert all(word in said for word in words), said
    assert "\n" not in said


def test_a_token_life_just_above_three_minutes_is_taken() -> None:
    assert settings("-tokenLife", "3m10s").token_life == 190


def price_list(path: Path, **entry: Any) -> Path:
    whole = {
        "pipeline": "live-video-to-video",
        "model_id": "m",
        "url": "http://x",
        "price_per_unit": 1,
        "warm": True,
    }
    path.write_text(json.dumps([{"pipeline": "text-to-image"}, whole | entry]))
    return path


def test_a_price_for_so_many_pixels_is_read_as_go_livepeer_reads_it(tmp_path: Path) -> None:
    path = price_list(tmp_path / "aiModels.json", price_per_unit=3, pixels_per_unit=2)
    (model,) = read_ai_models(path)
    assert model.price == Fraction(3 * 27_648_000, 2)


def test_a_list_may_have_several_models_each_with_its_price(tmp_path: Path) -> None:
    path = price_list(tmp_path / "aiModels.json", price_per_unit=5)
    (entry,) = json.loads(path.read_text())[1:]
    path.write_text(json.dumps([entry, {**entry, "model_id": "n", "price_per_unit": 7}]))
    made = settings("-aiModels", str(path))
    assert made.list_prices == {"m": 5, "n": 7}
    assert made.prices == (5, 10)
    path.write_text(json.dumps([entry, entry]))
    assert "two entries for one model" in refusal("-aiModels", str(path))


@pytest.mark.parametrize(
    "entry",
    [
        {"price_per_unit": 1.5},
        {"price_per_unit": -1},
        {"price_per_unit": True},
        {"pixels_per_unit": 0},
        {"pixels_per_unit": "1"},
        {"model_id": ""},
        {"warm": "yes"},
        {"pipeline": "other"},
    ],
)
def test_a_price_list_that_is_none_is_refused(tmp_path: Path, entry: dict[str, Any]) -> None:
    path = price_list(tmp_path / "aiModels.json", **entry)
    assert "is refused" in refusal("-aiModels", str(path))


@pytest.mark.parametrize("text", ["{}", "[1]", "nothing"])
def test_a_price_list_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "aiModels.json"
    path.write_text(text)
    assert "is refused" in refusal("-aiModels", str(path))


def test_the_effective_list_has_the_runners_real_url_and_all_else_as_it_was(tmp_path: Path) -> None:
    source, target = price_list(tmp_path / "aiModels.json", capacity=3), tmp_path / "effective.json"
    write_ai_models(source, target, "http://127.0.0.1:5")
    before, after = json.loads(source.read_text()), json.loads(target.read_text())
    assert after == [before[0], before[1] | {"url": "http://127.0.0.1:5"}]
