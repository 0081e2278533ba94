"""What a stream keeps for its worker has a limit, whatever it is updated with."""

from __future__ import annotations

import json

import pytest

from gateway.reason import EndReason
from gateway.stream.params import MAX_PARAMS, WorkerParams, json_size
from gateway.stream.seam import UpdateRefused
from gateway.stream.sources import JobSources, Preference
from harness.cost import TURN, cpu_seconds
from harness.waiting import SLACK
from tests.stream.jobs import FakeSource
from tests.stream.live import live_stream, registry_on

MEGABYTE = "x" * 1_000_000


def test_newer_ones_take_the_place_of_those_of_the_same_name() -> None:
    params = WorkerParams.of({"a": MEGABYTE, "b": 1}).updated({"a": MEGABYTE[1:], "c": "é"}).updated({})
    assert list(params.values) == ["b", "a", "c"]
    assert params.size == len(json.dumps(params.values))
    assert WorkerParams.of({}).size == json_size({}) == 0


def test_the_last_update_is_kept_as_it_was_beside_all_together() -> None:
    params = WorkerParams.of({"a": 1, "b": 1})
    assert (params.last_update, params.newest) == (None, {"a": 1, "b": 1})
    params = params.updated({"b": 2}).updated({"type": "set", "c": 3})
    assert params.values == {"a": 1, "b": 2, "c": 3}
    assert params.last_update == params.newest == {"type": "set", "c": 3}
    assert params.updated({"type": "get_nodes"}) is params, "a question is no update"
    assert params.updated({}).newest == {}, "a worker has nothing of all that then"


def test_200_updates_of_a_megabyte_each_keep_one() -> None:
    params, refused = WorkerParams.of({}), 0
    for number in range(200):
        try:
            params = params.updated({str(number): MEGABYTE})
        except UpdateRefused as refusal:
            assert refusal.code == "too_large"
            refused += 1
    assert (refused, len(params.values)) == (199, 1)
    assert params.size <= MAX_PARAMS


@pytest.mark.parametrize("values", [{"a": [1] * 340_000}, {str(at): 1 for at in range(80_000)}])
def test_the_most_that_is_taken_does_not_hold_up_the_loop(values: dict[str, object]) -> None:
    params = WorkerParams.of(values)
    assert cpu_seconds(lambda: params.updated(values)) < SLACK * TURN


@pytest.mark.asyncio
async def test_no_worker_gets_an_update_that_is_refused_and_what_is_kept_counts_as_held() -> None:
    network = FakeSource({}, name="network")
    registry = registry_on(JobSources([network], Preference("network", fallback=False)))
    async with live_stream(registry) as stream:
        await stream.update({"a": MEGABYTE})
        assert stream.held_bytes() > len(MEGABYTE)
        with pytest.raises(UpdateRefused, match="replace keys"):
            await stream.update({"b": MEGABYTE})
        assert [list(update) for update in network.jobs[0].updates] == [["a"]]
        await registry.close(EndReason.DRAINED, "the test is over")
