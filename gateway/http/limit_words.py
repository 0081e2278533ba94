"""The limits that a token line and an answer of the auth webhook may carry, by the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.eth_rate import Usd
from gateway.payments.ceiling import parse_limit
from gateway.payments.spending import StreamLimits

AMOUNTS = {
    "maxSessionSpend": "wei",
    "maxPublisherSpendPerHour": "publisher_hour",
    "maxPublisherSpendPerDay": "publisher_day",
}
"""Words whose value is an amount of money, with the limit that they set."""
IN_USD = {"wei": "usd", "publisher_hour": "publisher_hour_usd", "publisher_day": "publisher_day_usd"}
"""The limit that an amount in dollars sets."""
COUNTS = {"maxStreamSeconds": "seconds", "maxPaidStartsPerMinute": "paid_starts"}
"""Words whose value is a whole number, with the limit that they set."""
HIGHEST_COUNT = 10**9 - 1


def limits_of(amounts: Mapping[str, str], counts: Mapping[str, int]) -> StreamLimits:
    """The limits that these words set; all words must be known. Raises ValueError with a sentence."""
    limits: dict[str, Any] = {}
    for word, text in amounts.items():
        try:
            amount = parse_limit(text)
        except ValueError as error:
            raise ValueError(f"{word} is not an amount such as 0.1ETH or 5USD") from error
        if isinstance(amount, Usd):
            limits[IN_USD[AMOUNTS[word]]] = amount.amount
        else:
            limits[AMOUNTS[word]] = amount
    for word, count in counts.items():
        if not 0 <= count <= HIGHEST_COUNT:
            raise ValueError(f"{word} is not a whole number up to {HIGHEST_COUNT}")
        limits[COUNTS[word]] = count
    if limits.get("paid_starts") == 0:
        del limits["paid_starts"]  # no limit, as with the flag
    return StreamLimits(**limits)
