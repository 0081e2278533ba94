"""What the operator is shown of all nodes, whichever is asked."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from gateway import money
from gateway.http.control import is_readable, together
from harness.nats import NatsServer
from harness.waiting import eventually
from tests.cluster.nodes import PATH, TestNode, running_nodes
from tests.e2e.sessions import SDP, WATCH

pytestmark = pytest.mark.asyncio


async def status(node: TestNode, name: str) -> dict[str, str]:
    response = await node.ask("GET", f"{PATH}{name}/status")
    assert response.status == 200, await response.text()
    return dict((await response.json())["gateway_status"])


async def test_the_operator_sees_the_streams_metrics_and_orchestrators_of_all(
    nats: NatsServer, tmp_path: Path
) -> None:
    async with running_nodes(nats.url, tmp_path, "a", "b") as nodes:
        for name in ("one", "two"):
            assert (await nodes[0].publish(name, f"?streamId=id-{name}")).status == 201
        for node in nodes:
            streams = (await (await node.ask("GET", "/nodes/streams")).json())["streams"]
            assert [(one["name"], one["id"]) for one in streams] == [("one", "id-one"), ("two", "id-two")]
            assert sorted(one["node"] for one in streams) == ["a", "b"]
            orchestrators = await (await node.ask("GET", "/orchestrators")).json()
            own = {"orchestrators": []}
            assert orchestrators["orchestrators"] == []
            assert orchestrators["nodes"] == {"a": own, "b": own}
            whole = await (await node.ask("GET", "/metrics?nodes=all")).text()
            assert [f'livepeer_first_frame_seconds_count{{node="{one}"}}' in whole for one in "ab"] == [
                True
            ] * 2
            of_one = await (await node.ask("GET", "/metrics")).text()
            assert of_one.count("livepeer_first_frame_seconds_count{") == 1
            assert (await node.ask("GET", "/node/streams")).status == 404  # only nodes ask that


async def test_the_status_of_an_ended_stream_is_found_where_it_ended_last(
    nats: NatsServer, tmp_path: Path
) -> None:
    async with running_nodes(nats.url, tmp_path, "a", "b") as (a, b):
        assert (await b.ask("GET", f"{PATH}cam/status")).status == 404
        for closed, other in ((b, a), (a, b)):  # first on the one, then on the other
            closed.admission.draining, other.admission.draining = True, False
            await eventually(
                lambda closed=closed, other=other: other.sees(1) and closed.sees(1)  # type: ignore[misc]
            )
            location = (await other.publish("cam", "?streamId=cam-id")).headers["Location"]
            live = await status(closed, "cam")
            assert other.streams == ["cam"]
            await closed.ask("DELETE", location + "?resume=false")

            async def ended(request_id: str = live["request_id"]) -> bool:
                told = [await status(node, name) for node in (a, b) for name in ("cam", "cam-id")]
                return all(one["ended"] and one["request_id"] == request_id for one in told)

            await eventually(lambda: not a.streams and not b.streams)
            await eventually(ended)


async def test_the_playback_path_of_one_publish_is_known_by_other_nodes(
    nats: NatsServer, tmp_path: Path
) -> None:
    async with running_nodes(nats.url, tmp_path, "a", "b") as (a, b):
        assert (await a.publish("cam")).status == 201
        owner, other = (a, b) if a.streams else (b, a)
        request_id = (await status(other, "cam"))["request_id"]
        location = f"{PATH}cam-{request_id}-out/whep"
        answer = await other.ask("POST", location, data=WATCH, headers=SDP)
        assert (answer.status, answer.headers["Location"].split("/")[3]) == (201, "cam")
        assert (len(owner.registry.audience), len(other.registry.audience)) == (1, 0)
        waits = await other.ask("POST", f"{PATH}cam-{'0' * 16}-out/whep", data=WATCH, headers=SDP)
        assert waits.headers["Location"].split("/")[3] == f"cam-{'0' * 16}"


async def test_the_operator_sees_the_cost_of_all_streams_and_ends_those_of_other_nodes(
    nats: NatsServer, tmp_path: Path
) -> None:
    async with running_nodes(nats.url, tmp_path, "a", "b") as (a, b):
        for name in ("one", "two", "three"):
            assert (await a.publish(name)).status == 201
        assert a.streams
        assert b.streams
        for node in (a, b):
            told = await (await node.ask("GET", "/streams?nodes=all")).json()
            assert sorted(row["stream"] for row in told["streams"]) == ["one", "three", "two"]
            assert (told["totals"]["streams"], told["totals"]["cost_wei_per_second"]) == (3, "0")
            assert told["away"] == []
            own = await (await node.ask("GET", "/streams")).json()
            assert sorted(row["stream"] for row in own["streams"]) == node.streams
        name = b.streams[0]
        refused = await a.ask("POST", f"/streams/{name}/swap")
        assert (refused.status, (await refused.json())["code"]) == (503, "no_orchestrator")
        assert (await a.ask("DELETE", f"/streams/{name}")).status == 200
        await eventually(lambda: name not in b.streams)
        for nobody in (name, "nobody", "%E2%98%83"):
            assert (await a.ask("DELETE", f"/streams/{nobody}")).status == 404
        assert (await a.ask("GET", "/node/control/streams")).status == 404  # only nodes ask that


async def test_what_another_node_tells_is_added_or_not_understood() -> None:
    told = {"streams": 1, "viewers": 2, "cost_wei_per_second": "1/3", "credited_wei": "4"}
    assert together([told, told]) == {
        "streams": 2,
        "viewers": 4,
        "cost_wei_per_second": money.text(Fraction(2, 3)),
        "credited_wei": "8",
    }
    assert is_readable({"streams": [{}], "totals": told})
    for bad in (None, [], {"streams": []}, {"streams": [1], "totals": told}, {"streams": [], "totals": {}}):
        assert not is_readable(bad)
    assert not is_readable({"streams": [], "totals": {**told, "cost_wei_per_second": "1/0"}})


async def test_a_stream_of_another_node_is_ended(nats: NatsServer, tmp_path: Path) -> None:
    async with running_nodes(nats.url, tmp_path, "a", "b") as (a, b):
        assert (await a.publish("cam", "?streamId=the-id")).status == 201
        owner, other = (a, b) if a.streams else (b, a)
        assert await other.all.stream_ids() == ["the-id"]
        await other.all.end("the-id")
        assert not [one for one in owner.registry if not one.ending]
        await other.all.end("nobody")
        await other.all.end("strange/\u2603")
