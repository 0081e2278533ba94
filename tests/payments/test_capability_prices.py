from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.payments.capability_prices import ceiling_for, parse_capability_prices


def document(*entries: dict[str, Any]) -> str:
    return json.dumps({"capabilities_prices": entries})


def entry(price: Any, **others: Any) -> dict[str, Any]:
    return {"pipeline": "live-video-to-video", "price_per_unit": price, **others}


def test_a_models_ceiling_is_its_own_or_its_pipelines_or_the_general_one() -> None:
    prices = parse_capability_prices(
        document(
            entry("0.001ETH", model_id="comfystream"),
            entry(1200, model_id="default", pixels_per_unit=1),
            {"pipeline": "text-to-image", "model_id": "sd", "price_per_unit": 5},
        )
    )
    assert ceiling_for("comfystream", prices) == 10**15
    assert ceiling_for("another", prices) == 33_177_600_000
    assert ceiling_for("sd", {}) is None


def test_it_may_be_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(document(entry(10**15)))
    assert parse_capability_prices(str(path)) == {"default": 10**15}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ('{"capabilities_prices": ' + "[" * 5_000, "not JSON"),
        ("{}", "capabilities_prices"),
        ("nowhere.json", "cannot be read"),
        (document(entry(1.5)), "cannot be read"),
        (document(entry(None)), "whole number"),
        (document(entry(1, currency="USD")), "USD"),
        (document(entry(1, pixels_per_unit="x")), "pixels_per_unit"),
    ],
)
def test_invalid_input_is_refused_with_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_capability_prices(text)
