"""Sessions that are stopped though their orchestrator does not answer at once."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.aio.inside import PUBLIC, Reach
from gateway.aio.left_calls import LeftCalls
from gateway.runner.reserve import RunnerSession
from gateway.runner.resources import RunnerResources
from harness.waiting import eventually

RUNNER = "https://orchestrator/apps/echo"
SESSION = RunnerSession("id", "https://orchestrator/app", "https://orchestrator/control")


class Orchestrator:
    """Its client and the pool that knows its runner: what they were asked is in `told`."""

    def __init__(self, silent: int) -> None:
        self.silent = silent
        self.told: list[str] = []

    async def stop(self, control_url: str, reach: Reach) -> bool:
        self.told.append(f"stop {control_url}")
        return len(self.told) > self.silent

    def room_changed(self, url: str, *, freed: bool) -> None:
        assert freed
        self.told.append(f"room at {url}")


@pytest.mark.asyncio
@pytest.mark.parametrize("silent", [0, 3])
async def test_a_stop_is_made_again_until_it_is_answered(silent: int) -> None:
    it = Orchestrator(silent)
    left = LeftCalls("test-left", retry_every=0.001)
    resources = RunnerResources(cast(Any, it), cast(Any, it), {}, {}, None, left_sessions=left)
    await resources.stop(RUNNER, SESSION, PUBLIC)
    assert it.told == [f"stop {SESSION.control_url}"], "the end of a stream does not wait for it"
    await eventually(lambda: not len(left), what="its end")
    later = [f"stop {SESSION.control_url}"] * silent + [f"room at {RUNNER}"]
    assert it.told[1:] == (later if silent else [])
    await left.close()
