"""Several nodes as one gateway: whoever is asked, the node answers that has the stream."""

from __future__ import annotations

import asyncio
from io import BytesIO
from pathlib import Path

import pytest

from harness.nats import NatsServer
from harness.waiting import eventually, within
from tests.cluster.nodes import PATH, running_node, running_nodes
from tests.e2e.sessions import SDP, WATCH

pytestmark = pytest.mark.asyncio


async def test_publishers_are_spread_and_found_by_any_node(nats: NatsServer, tmp_path: Path) -> None:
    async with running_nodes(nats.url, tmp_path, "a", "b", "c") as nodes:
        first = nodes[0]
        locations = {}
        for name in ("one", "two", "three"):
            response = await first.publish(name)
            assert response.status == 201, await response.text()
            locations[name] = response.headers["Location"]
            assert response.headers.getall("ETag")
        assert sorted(len(node.streams) for node in nodes) == [1, 1, 1]
        for node in nodes:
            for name in locations:
                status = await node.ask("GET", f"{PATH}{name}/status")
                assert (status.status, (await status.json())["gateway_status"]["stream"]) == (200, name)
        for node, (name, location) in zip(nodes, locations.items(), strict=True):
            assert (await node.ask("DELETE", location + "?resume=false")).status == 200
            await eventually(lambda name=name: all(name not in node.streams for node in nodes))  # type: ignore[misc]
        assert (await first.ask("GET", f"{PATH}nobody/status")).status == 404


async def test_of_two_publishers_of_one_name_at_two_nodes_one_gets_201(
    nats: NatsServer, tmp_path: Path
) -> None:
    async with running_nodes(nats.url, tmp_path, "a", "b") as nodes:
        for attempt in range(5):
            answers = await asyncio.gather(*(node.publish(f"race{attempt}") for node in nodes * 2))
            assert sorted(answer.status for answer in answers) == [201, 409, 409, 409]
        answer = await nodes[0].publish("other", "?streamId=race0")
        assert answer.status == 409


async def test_a_name_that_was_given_back_can_be_taken_by_another_node(
    nats: NatsServer, tmp_path: Path
) -> None:
    async with running_nodes(nats.url, tmp_path, "a", "b") as (a, b):
        for _ in range(3):
            location = (await within(a.publish("again"))).headers["Location"]
            a.admission.draining = not a.admission.draining
            assert (await b.ask("DELETE", location)).status == 200
            await eventually(lambda: not a.streams and not b.streams)


async def test_refusals_come_back_as_on_one_node(nats: NatsServer, tmp_path: Path) -> None:
    async with running_nodes(nats.url, tmp_path, "a", "b") as (a, b):
        assert (await a.publish("mine")).status == 201
        other = b if a.streams else a
        taken = await other.publish("mine")
        problem = await taken.json(content_type=None)
        assert (taken.status, taken.content_type) == (409, "application/problem+json")
        assert problem["code"] == "name_taken"
        wrong = await other.publish("mine", headers={"Content-Type": "text/plain"})
        assert (wrong.status, wrong.headers["Accept-Post"]) == (415, "application/sdp")
        large = await other.ask("POST", f"{PATH}mine/update", data=BytesIO(bytes(1024 * 1024 + 1)))
        assert large.status == 413
        whole = b'{"prompt": "' + b"x" * (1024 * 1024 - 100) + b'"}'
        sent_on = await other.ask("POST", f"{PATH}mine/update", data=whole)
        assert (await sent_on.json(content_type=None))[
            "code"
        ] == "too_large"  # by the owner, of its own limit


async def test_tokens_are_checked_by_the_owner(nats: NatsServer, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("secret streams=mine\n")
    flags = ("-publishTokens", str(tokens))
    async with (
        running_node(nats.url, "a", tmp_path / "a", *flags) as a,
        running_node(nats.url, "b", tmp_path / "b", *flags) as b,
    ):
        await eventually(lambda: a.sees(2) and b.sees(2))
        login = {"Authorization": "Bearer secret"}
        assert (await a.publish("mine")).status == 401
        assert (await a.publish("mine", headers=login)).status == 201
        for node in (a, b):
            assert (await node.ask("POST", f"{PATH}mine/update", json={})).status == 401
            assert (await node.ask("POST", f"{PATH}mine/update", json={}, headers=login)).status != 401


async def test_a_token_has_its_streams_and_viewers_over_all_nodes(nats: NatsServer, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("secret maxStreams=2 maxViewers=1\n")
    flags = ("-publishTokens", str(tokens), "-playTokens", str(tokens))
    login = {"Authorization": "Bearer secret"}
    async with (
        running_node(nats.url, "a", tmp_path / "a", *flags) as a,
        running_node(nats.url, "b", tmp_path / "b", *flags) as b,
    ):
        await eventually(lambda: a.sees(2) and b.sees(2))
        answers = await asyncio.gather(
            *(node.publish(f"{node.node.identity.node}{n}", headers=login) for node in (a, b) for n in "123")
        )
        assert sorted(one.status for one in answers) == [201, 201, 429, 429, 429, 429]
        location = next(one.headers["Location"] for one in answers if one.status == 201)
        assert (await b.ask("DELETE", location, headers=login)).status == 200
        await eventually(lambda: len(a.streams) + len(b.streams) == 1)
        assert (await within(a.publish("again", headers=login))).status == 201
        watching = {"data": WATCH, "headers": {**SDP, **login}}
        viewers = await asyncio.gather(
            *(node.ask("POST", f"{PATH}again/whep", **watching) for node in (a, b) * 2)
        )
        assert sorted(one.status for one in viewers) == [201, 429, 429, 429]


async def test_the_owner_sees_the_clients_address_and_url(nats: NatsServer, tmp_path: Path) -> None:
    flags = ("-trustedProxies", "127.0.0.1", "-maxStreamsPerAddress", "1")
    async with (
        running_node(nats.url, "a", tmp_path / "a", *flags) as a,
        running_node(nats.url, "b", tmp_path / "b", *flags) as b,
    ):
        await eventually(lambda: a.sees(2) and b.sees(2))
        proxied = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Prefix": "/video"}
        first = await a.publish("one", headers=proxied)
        assert (first.status, first.headers["Location"][:12]) == (201, "/video/live/")
        second = await a.publish("two", headers=proxied)
        assert (second.status, len(a.streams), len(b.streams)) == (201, 1, 1)
        refused = await a.publish("three", headers=proxied)
        assert (refused.status, (await refused.json(content_type=None))["limit"]) == (
            429,
            "-maxStreamsPerAddress",
        )
        other = await a.publish("four", headers={"X-Forwarded-For": "192.0.2.8"})
        assert other.status == 201


async def test_a_draining_node_sends_publishers_to_others(nats: NatsServer, tmp_path: Path) -> None:
    async with running_nodes(nats.url, tmp_path, "a", "b") as (a, b):
        a.admission.draining = True
        await eventually(lambda: not any(one.open for one in b.node.nodes() if one.identity.node == "a"))
        assert [(await a.publish(name)).status for name in ("one", "two")] == [201, 201]
        assert b.streams == ["one", "two"]


async def test_a_viewer_is_served_by_the_node_that_it_asks_and_its_session_is_found_by_any(
    nats: NatsServer, tmp_path: Path
) -> None:
    async with running_nodes(nats.url, tmp_path, "a", "b") as (a, b):
        assert (await a.publish("mine")).status == 201
        owner, other = (a, b) if a.streams else (b, a)
        watched = await other.ask("POST", f"{PATH}mine/whep", data=WATCH, headers=SDP)
        assert watched.status == 201, await watched.text()
        location = watched.headers["Location"]
        assert location.rpartition("/")[2].startswith(f"{other.node.tag}-")
        assert (len(owner.registry.audience), len(other.registry.audience)) == (0, 1)
        patch = {"Content-Type": "application/trickle-ice-sdpfrag"}
        assert (await owner.ask("PATCH", location, data="a=x", headers=patch)).status == 428
        assert (await owner.ask("DELETE", location)).status == 200
        await eventually(lambda: not len(other.registry.audience))
        unknown = location.rpartition("/")[0] + "/000000000000-x"
        assert (await owner.ask("PATCH", unknown, data="a=x", headers=patch)).status == 404
        assert (await owner.ask("DELETE", unknown)).status == 200


async def test_a_node_that_drains_since_its_last_beat_is_passed_over(
    nats: NatsServer, tmp_path: Path
) -> None:
    async with running_nodes(nats.url, tmp_path, "a", "b") as (a, b):
        assert (await a.publish("one")).status == 201
        full, idle = (a, b) if a.streams else (b, a)
        idle.admission.draining = True
        for asked in (full, idle):
            assert (await asked.publish(f"by-{asked.node.tag}")).status == 201
        assert len(full.streams) == 3
        full.admission.draining = True
        refused = await idle.publish("two")
        assert (refused.status, (await refused.json(content_type=None))["code"]) == (503, "draining")


async def test_all_nodes_are_shown(nats: NatsServer, tmp_path: Path) -> None:
    async with running_nodes(nats.url, tmp_path, "a", "b") as (a, b):
        await a.publish("one")
        shown = (await (await b.ask("GET", "/nodes")).json())["nodes"]
        assert [(one["name"], one["answers"]) for one in shown] == [("a", False), ("b", True)]
        assert {one["url"] for one in shown} == {a.url, b.url}


async def test_without_nats_only_a_nodes_own_streams_go_on(nats: NatsServer, tmp_path: Path) -> None:
    async with running_nodes(nats.url, tmp_path, "a", "b", resume_timeout=30.0) as (a, b):
        assert (await a.publish("mine")).status == 201
        owner = a if a.streams else b
        nats.kill()
        try:
            await eventually(owner.node.reasons_not_ready)
            refused = await owner.publish("new")
            assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
            assert (await refused.json(content_type=None))["code"] == "cluster_away"
            ready = await owner.ask("GET", "/readyz")
            assert (ready.status, (await ready.json())["reasons"][0][:12]) == (503, "cluster_away")
            assert (await owner.ask("GET", f"{PATH}mine/status")).status == 200
            assert owner.streams == ["mine"]
        finally:
            nats.start()
        other = b if owner is a else a

        async def found() -> bool:
            return (await other.ask("GET", f"{PATH}mine/status")).status == 200

        await eventually(found)
        await eventually(lambda: not a.node.reasons_not_ready() and not b.node.reasons_not_ready())
        assert (await other.publish("mine")).status == 409
        assert (await other.publish("new")).status == 201
