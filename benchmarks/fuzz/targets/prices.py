"""Prices and amounts, and what is computed of them."""

from __future__ import annotations

from contextlib import suppress

from benchmarks.fuzz.target import Target
from gateway import money
from gateway.payments.capability_prices import parse_capability_prices
from gateway.payments.ceiling import PriceCeiling, parse_amount


def check(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    with suppress(ValueError):
        parse_amount(text)
    with suppress(ValueError):
        ceiling = PriceCeiling.parse(text).per_second(1)
        money.decimal(ceiling)
        money.text(money.fee(ceiling, ceiling))
    with suppress(ValueError):
        parse_capability_prices("{" + text)


ENTRY = '"capabilities_prices": [{"pipeline": "live-video-to-video", "model_id": "m", "price_per_unit": %s}]}'

PRICES = Target(
    "prices",
    check,
    limit=64 * 1024,
    seeds=[
        *(b"1000000000000000", b"0.001ETH", b"3.6ETH/h", b"1000000gwei"),
        (ENTRY % '"0.001ETH"').encode(),
        (ENTRY % '100, "pixels_per_unit": 3').encode(),
    ],
    words=[b"/h", b"ETH", b".", b"1" * 40, b"1e999", b'"pixels_per_unit": 0,', b"null", b"[["],
)
