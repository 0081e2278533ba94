"""Own servers or the network: the stream's wish before the operator's."""

from __future__ import annotations

import pytest

from gateway.stream.sources import Preference

OWN, NETWORK = True, False


@pytest.mark.parametrize(
    ("preference", "asked", "order"),
    [
        (Preference(own_first=False, fallback=False), None, (NETWORK,)),
        (Preference(own_first=True, fallback=False), None, (OWN,)),
        (Preference(own_first=True, fallback=True), None, (OWN, NETWORK)),
        (Preference(own_first=False, fallback=True), None, (NETWORK, OWN)),
        (Preference(own_first=False, fallback=True), "comfystream", (OWN,)),
        (Preference(own_first=True, fallback=True), "network", (NETWORK,)),
    ],
)
def test_the_kinds_are_tried_in_the_order_that_was_asked_for(
    preference: Preference, asked: str | None, order: tuple[bool, ...]
) -> None:
    assert preference.order(asked) == order
