"""Which capabilities serve which, by go-livepeer's rules."""

from __future__ import annotations

import pytest

from gateway.devnet.orchestrator.compatibility import compatible
from gateway.orchestrator.livepeer_pb2 import Capabilities

LIVE = 35


def stated(
    bits: list[int] | None = None,
    *,
    model: str = "m",
    warm: bool = False,
    version: str = "0.9.1",
    minimum: str = "",
    runner: str = "",
    mandatories: list[int] | None = None,
) -> Capabilities:
    message = Capabilities(
        bitstring=[1 << LIVE] if bits is None else bits, mandatories=mandatories or [], version=version
    )
    message.constraints.minVersion = minimum
    one = message.constraints.PerCapability[LIVE].models[model]
    one.warm, one.runnerVersion = warm, runner
    return message


@pytest.mark.parametrize(
    ("asked", "offered", "served"),
    [
        (stated(), stated(), True),
        (Capabilities(), stated(), True),
        (stated(), stated([1 << LIVE | 1]), True),
        (stated([1 << LIVE | 1]), stated(), False),
        (stated([1 << LIVE, 1]), stated(), False),
        (stated(), stated([1 << LIVE, 1]), True),
        (stated(model="other"), stated(), False),
        (stated(), Capabilities(bitstring=[1 << LIVE]), True),
        (stated(warm=True), stated(warm=True), True),
        (stated(warm=True), stated(), False),
        (stated(), stated(warm=True), True),
        (stated(), stated(mandatories=[1]), False),
        (stated([1 << LIVE | 1]), stated([1 << LIVE | 1], mandatories=[1]), True),
        (stated(minimum="0.9.1"), stated(), True),
        (stated(minimum="0.9.1"), stated(version="0.9.1-post"), True),
        (stated(minimum="0.10.0"), stated(), False),
        (stated(minimum="0.1.0"), stated(version=""), False),
        (stated(minimum="0.1.0"), stated(version="undefined"), False),
        (stated(minimum="none"), stated(), True),
        (stated(runner="1.0.0"), stated(runner="0.0.0"), False),
        (stated(runner="1.0.0"), stated(runner="1.0.1"), True),
    ],
)
def test_what_is_asked_is_served_or_not(asked: Capabilities, offered: Capabilities, served: bool) -> None:
    assert compatible(asked, offered) is served
