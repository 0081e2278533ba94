"""The luck of the newest days as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.chain.importing import contained
from gateway.chain.luck import Luck

MOST_BARS = 40
ETHER = 10**18


def luck_chart(rows: Sequence[Luck]) -> bytes:
    """An SVG: the ETH expected of each day and orchestrator, with two standard deviations, and the real."""
    with contained():  # loaded when somebody looks
        import pygal

    newest = rows[-MOST_BARS:]
    chart: Any = pygal.Bar(
        title="Tickets: expected against redeemed",
        y_title="ETH",
        no_data_text="no tickets yet",
        js=(),
        x_label_rotation=40,
        print_values=False,
    )
    chart.x_labels = [f"{luck.day} {luck.orchestrator[:8]}" for luck in newest]
    chart.add("expected", [_expected(luck) for luck in newest])
    chart.add("redeemed", [luck.redeemed / ETHER for luck in newest])
    return bytes(chart.render())


def _expected(luck: Luck) -> dict[str, Any]:
    middle, spread = float(luck.expected / ETHER), 2 * luck.spread / ETHER
    return {"value": middle, "ci": {"low": max(0.0, middle - spread), "high": middle + spread}}
