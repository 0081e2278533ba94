"""`-maxPricePerCapability`: a price ceiling for each pipeline and model, in go-livepeer's JSON.

    {"capabilities_prices": [{"pipeline": "live-video-to-video", "model_id": "comfystream",
                              "price_per_unit": "0.001ETH"}]}

`price_per_unit` takes what `-maxPricePerUnit` takes: wei per second, or text with a unit. With
`pixels_per_unit` it is go-livepeer's: wei per that many pixels. An entry for the model `default`, or without
a model, is for all models of its pipeline without an entry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.eth_rate import Price
from gateway.payments.ceiling import PriceCeiling

PIPELINE = "live-video-to-video"
DEFAULT_MODEL = "default"


def parse_capability_prices(value: str) -> Mapping[str, Price]:
    """Ceilings per second by model, from JSON or the path of a JSON file.

    Raises ValueError with a sentence.
    """
    text = value.strip()
    if not text.startswith("{"):
        try:
            text = Path(text).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"the file cannot be read: {error}") from error
    try:
        document = json.loads(text, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    entries = document.get("capabilities_prices") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("it has no list of objects named capabilities_prices")
    return {
        str(entry.get("model_id") or DEFAULT_MODEL): _price(entry)
        for entry in entries
        if entry.get("pipeline") == PIPELINE
    }


def ceiling_for(model: str, prices: Mapping[str, Price]) -> Price | None:
    """The ceiling for a model: its own, else its pipeline's default; None where there is neither."""
    return prices.get(model, prices.get(DEFAULT_MODEL))


def _price(entry: Mapping[str, Any]) -> Price:
    price, pixels = entry.get("price_per_unit"), entry.get("pixels_per_unit")
    if str(entry.get("currency") or "wei").lower() != "wei":
        raise ValueError(
            f"the currency {entry['currency']} is not supported: write price_per_unit as text: 0.5USD/h"
        )
    if type(price) not in (int, str):
        raise ValueError("price_per_unit must be a whole number of wei, or text such as 0.001ETH")
    if pixels is not None and type(pixels) is not int:
        raise ValueError("pixels_per_unit must be a whole number")
    try:
        return PriceCeiling.parse(str(price)).price(pixels)
    except ValueError as error:
        raise ValueError(f"the price_per_unit {price!r} cannot be read: {error}") from error
