"""`aiModels.json`: the models that an orchestrator offers, their prices and their runner."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from gateway.money import wei_per_second

PIPELINE = "live-video-to-video"


@dataclass(frozen=True, slots=True, kw_only=True)
class AiModel:
    """The file's entry for live video; `price` is in wei per second of 720p30."""

    model_id: str
    url: str
    price: Fraction
    warm: bool


def read_ai_models(path: Path) -> tuple[AiModel, ...]:
    """The entries for live video. Raises ValueError with a sentence where there is none."""
    models = [_model(entry) for entry in _entries(path) if entry.get("pipeline") == PIPELINE]
    if not models:
        raise ValueError(f"it has no entry with the pipeline {PIPELINE}")
    if len({model.model_id for model in models}) < len(models):
        raise ValueError("it has two entries for one model")
    return tuple(models)


def write_ai_models(source: Path, target: Path, runner_url: str) -> None:
    """Copy `source` to `target` with `runner_url` in the entries for live video."""
    entries = [
        {**entry, "url": runner_url} if entry.get("pipeline") == PIPELINE else entry
        for entry in _entries(source)
    ]
    target.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
        raise ValueError("it is not a list of objects")
    return document


def _model(entry: dict[str, Any]) -> AiModel:
    model_id, warm = entry.get("model_id"), entry.get("warm", False)
    if not isinstance(model_id, str) or not model_id or not isinstance(warm, bool):
        raise ValueError("model_id must be a text and warm true or false")
    return AiModel(model_id=model_id, url=str(entry.get("url", "")), price=_price(entry), warm=warm)


def _price(entry: dict[str, Any]) -> Fraction:
    """Wei per second; with `pixels_per_unit`, wei per that many pixels, as in go-livepeer."""
    price, pixels = entry.get("price_per_unit"), entry.get("pixels_per_unit")
    if type(price) is not int or price < 0:
        raise ValueError("price_per_unit must be a whole number of wei")
    if pixels is None:
        return Fraction(price)
    if type(pixels) is not int:
        raise ValueError("pixels_per_unit must be a whole number")
    return wei_per_second(price, pixels)
