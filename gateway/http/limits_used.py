"""How much of each limit this node has used, for the operator."""

from __future__ import annotations

from gateway import money
from gateway.http.limits import ClientLimits
from gateway.payments.spending import DAY, HOUR, Spending
from gateway.stream.registry import StreamRegistry
from gateway.stream.seam import Json


def limits_used(limits: ClientLimits, registry: StreamRegistry, spending: Spending | None) -> list[Json]:
    """A row for each limit over all streams; `most` is None where there is none."""
    rows: list[Json] = [
        _row("maxStreams", str(len(registry)), limits.streams or None, ""),
        _row("maxViewers", str(len(registry.audience)), limits.viewers or None, ""),
    ]
    if spending is not None:
        for limit, most, minutes in (
            ("maxSpendPerHour", spending.limits.hour, HOUR),
            ("maxSpendPerDay", spending.limits.day, DAY),
        ):
            rows.append(_row(limit, money.whole_wei(spending.spent(minutes)), most, "wei"))
    return rows


def _row(limit: str, used: str, most: int | None, unit: str) -> Json:
    return {"limit": f"-{limit}", "used": used, "most": None if most is None else str(most), "unit": unit}
