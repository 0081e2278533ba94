"""A chart of the luck of the newest days: one line for each day and orchestrator, the newest on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.chain.importing import contained
from gateway.chain.luck import Luck

MAX_LINES = 42
LINE_HEIGHT, REST_HEIGHT, WIDTH = 20, 190, 1000
ETHER = 10**18

RANGE, EXPECTED, REDEEMED, SUSPICIOUS, UNKNOWN = "#999999", "#777777", "#0072b2", "#d55e00", "#cc79a7"
"""Okabe and Ito's colours, which colour-blind people can distinguish; the sizes differ as well."""
CSS = """
.series.serie-0 .line { stroke-width: 9px !important; stroke-opacity: .45 !important; }
.axis.y .guides text { font-family: monospace; }
@media (prefers-color-scheme: dark) {
  .background { fill: #16181d !important; }
  .plot .background { fill: #1d2026 !important; }
  text, .title, .legends text, .axis text { fill: #e6e6e6 !important; }
  .axis .line { stroke: #6b717c !important; }
  .color-1 { fill: #c9c9c9 !important; stroke: #c9c9c9 !important; }
  .color-2 { fill: #56b4e9 !important; stroke: #56b4e9 !important; }
}
"""


def luck_chart(lines: Sequence[Luck]) -> bytes:
    """An SVG of the redeemed ETH, the expected ETH, and the range that chance explains."""
    with contained():  # pygal is loaded for the first chart
        import pygal
        from pygal.style import Style

    newest = lines[-MAX_LINES:]
    chart: Any = pygal.XY(
        title="Redeemed tickets and the range that chance explains",
        x_title="ETH, for the tickets that were sent on that UTC day",
        width=WIDTH,
        height=REST_HEIGHT + LINE_HEIGHT * max(len(newest), 4),
        style=Style(
            background="#ffffff",
            plot_background="#f6f7f9",
            colors=(RANGE, EXPECTED, REDEEMED, SUSPICIOUS, UNKNOWN),
            font_family="sans-serif",
            title_font_size=16,
            label_font_size=12,
            major_label_font_size=12,
            legend_font_size=13,
        ),
        no_data_text="no tickets in these days",
        js=(),
        css=("file://style.css", "file://graph.css", "inline:" + CSS),
        stroke=False,
        allow_interruptions=True,
        legend_at_bottom=True,
        legend_at_bottom_columns=1,
        truncate_legend=-1,
        show_y_guides=False,
        y_labels_major=[],
        margin=12,
        include_x_axis=True,
        print_values=False,
        xrange=(0, max(_largest(luck) for luck in newest) * 1.03 or 1) if newest else None,
        range=(-0.7, max(len(newest), 1) - 0.3),
        x_value_formatter=lambda ether: f"{ether:.6g} ETH",
        value_formatter=lambda place: _name(newest[round(place)]) if newest else "",
    )
    chart.y_labels = [{"label": _name(luck), "value": place} for place, luck in enumerate(newest)]
    placed = list(enumerate(newest))
    ranges = [
        point
        for place, luck in placed
        for point in ((luck.likely[0] / ETHER, place), (luck.likely[1] / ETHER, place), None)
    ]
    chart.add("what chance explains: 1 day in 1,000 is above, 1 below", ranges, stroke=True, show_dots=False)
    chart.add("expected", [(float(luck.expected / ETHER), place) for place, luck in placed], dots_size=3)
    for words, suspicious, size in (("redeemed", False, 5), ("redeemed: more than chance explains", True, 8)):
        points = [(one.redeemed / ETHER, place) for place, one in placed if one.suspicious is suspicious]
        chart.add(words, points, dots_size=size)
    unknown = [(one.unknown_redeemed / ETHER, place) for place, one in placed if one.unknown_wins]
    if unknown:
        chart.add("redeemed, of no payment in this ledger", unknown, dots_size=4)
    return bytes(chart.render())


def _largest(luck: Luck) -> float:
    return max(luck.likely[1], luck.redeemed, luck.unknown_redeemed) / ETHER


def _name(luck: Luck) -> str:
    mark = "!  " if luck.suspicious else ""
    return f"{mark}{luck.day}  {luck.orchestrator[:6]}..{luck.orchestrator[-4:]}"
