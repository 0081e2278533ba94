"""What the operator is shown of all nodes, whichever is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

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


async def test_a_stream_of_another_node_is_ended(nats: NatsServer, tmp_path: Path) -> None:
    async with running_nodes(nats.url, tmp_path, "a", "b") as (a, b):
        assert (await a.publish("cam", "?streamId=the-id")).status == 201
        owner, other = (a, b) if a.streams else (b, a)
        assert await other.all.stream_ids() == ["the-id"]
        await other.all.end("the-id")
        assert not [one for one in owner.registry if not one.ending]
        await other.all.end("nobody")
        await other.all.end("strange/\u2603")
