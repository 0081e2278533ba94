"""What an orchestrator's `/discovery` says of its live runners: apps, room and prices. No I/O.

Two dialects answer it, go-livepeer's and that of livepeer/node; unknown fields are ignored.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any

from gateway.aio.inside import PUBLIC, Reach
from gateway.aio.json_text import parse_json_exactly
from gateway.money import PIXELS_PER_SECOND
from gateway.orchestrator.urls import complete

MAX_RUNNERS = 200
"""Limit of runners that are used of one answer."""
MAX_NAME = 200
"""Limit of characters of an app's name, and of what else is shown."""
MAX_PRICE = 10**30
"""Wei per second above which a number is no price."""
MAX_CAPACITY = 10**6
SERVERLESS = "serverless"


class Unit(StrEnum):
    """What a runner's price is for, as the wire names it."""

    SECONDS = "seconds"
    PIXELS = "720p-pixel-seconds"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class RunnerOffer:
    """One live runner: an app that may be reserved at `url`."""

    url: str
    """Where a session is reserved."""
    app: str
    version: str = ""
    gpu: str = ""
    """The name of its GPU."""
    mode: str = "persistent"
    room: int | None = None
    """Sessions that it would still take; None where it does not say."""
    price: Fraction | None = None
    """Wei per second, 0 where it is free; None where it cannot be told, as of a price per call."""
    unit: Unit | None = None
    """None where nothing is paid."""
    reach: Reach = PUBLIC
    """Where the URLs that it names may lead."""

    @property
    def paid(self) -> bool:
        return self.unit is not None


def parse_discovery(
    body: bytes, base: str, reach: Reach = PUBLIC, apps: Container[str] | None = None
) -> list[RunnerOffer]:
    """The runners in an answer; `base`, the orchestrator's URL, completes relative ones.

    Those of other apps than `apps` are left out; None: of none.

    Raises ValueError for what is no such list.
    """
    try:
        entries = parse_json_exactly(body)
    except ValueError as error:
        raise ValueError(f"the list of runners is not JSON that is taken: {error}") from error
    if not isinstance(entries, list):
        raise ValueError("the list of runners is not a JSON list")
    return offers_in(entries, base, reach, apps)


def offers_in(
    entries: Sequence[Any], base: str, reach: Reach = PUBLIC, apps: Container[str] | None = None
) -> list[RunnerOffer]:
    """The first MAX_RUNNERS runners for `apps`, or for any, in the entries of a list.

    Those that make no sense are left out. `reach` is where the one who lists them may lead.
    """
    found: list[RunnerOffer] = []
    for entry in entries:
        runners = entry.get("runners") if isinstance(entry, dict) else None
        for runner in runners if isinstance(runners, list) else ():
            offer = _offer(runner, base, reach, apps) if isinstance(runner, dict) else None
            if offer is not None:
                found.append(offer)
            if len(found) == MAX_RUNNERS:
                return found
    return found


def _offer(
    runner: Mapping[str, Any], base: str, reach: Reach, apps: Container[str] | None
) -> RunnerOffer | None:
    app = _text(runner, "app")
    if not app or (apps is not None and app not in apps):
        return None
    try:
        url = complete(_text(runner, "url", 2048), base)
        price, unit = _price(runner.get("price_info"))
    except ValueError:
        return None
    gpu = runner.get("gpu")
    return RunnerOffer(
        url=url,
        app=app,
        version=_text(runner, "version"),
        gpu=_text(gpu, "name") if isinstance(gpu, dict) else "",
        mode=_mode(runner),
        room=_room(runner),
        price=price,
        unit=unit,
        reach=reach,
    )


def _price(info: Any) -> tuple[Fraction | None, Unit | None]:
    """Wei per second and the unit. Raises ValueError for what is no price."""
    if not isinstance(info, dict):
        return Fraction(0), None
    amount = info.get("price")
    if isinstance(amount, bool) or not isinstance(amount, int | Decimal) or not 0 <= amount <= MAX_PRICE:
        raise ValueError("no price")
    if isinstance(amount, Decimal) and amount.adjusted() < -40:
        raise ValueError("no price")
    price, unit = Fraction(amount), _text(info, "unit")
    if not unit and not price:
        return Fraction(0), None
    if _text(info, "currency") not in ("", "wei"):
        raise ValueError("not a price in wei")
    match Unit(unit):
        case Unit.SECONDS:
            return price, Unit.SECONDS
        case Unit.PIXELS:
            return price * PIXELS_PER_SECOND, Unit.PIXELS
        case Unit.FIXED:
            return None, Unit.FIXED


def _mode(runner: Mapping[str, Any]) -> str:
    """How it is reserved. A serverless one names no mode: it starts with the payment, in one call."""
    serverless = _text(runner, "version").startswith(SERVERLESS)
    return _text(runner, "mode") or (SERVERLESS if serverless else "persistent")


def _room(runner: Mapping[str, Any]) -> int | None:
    free = _count(runner, "capacity_available")
    if free is not None:
        return free
    capacity, used = _count(runner, "capacity"), _count(runner, "capacity_used")
    return None if capacity is None else max(0, capacity - (used or 0))


def _count(runner: Mapping[str, Any], name: str) -> int | None:
    value = runner.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_CAPACITY:
        return None
    return value


def _text(fields: Mapping[str, Any], name: str, limit: int = MAX_NAME) -> str:
    """A text that may be shown; empty where there is none, or where it is too long or unprintable."""
    value = fields.get(name)
    return value if isinstance(value, str) and len(value) <= limit and value.isprintable() else ""
