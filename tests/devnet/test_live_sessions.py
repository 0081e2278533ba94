"""What a reserved session may do: proxied requests, channels, limits, and its ends."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import aiohttp
import pytest

from gateway.aio.tasks import spawn
from gateway.devnet.live_runners.dialect import MAX_NODE_SEGMENT
from gateway.trickle import wire
from harness.waiting import eventually, within
from tests.devnet.live_kit import Live, live

BOTH = pytest.mark.parametrize("dialect", ["go", "node"])


async def reserved(at: Live, **changes: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """A session, and the headers that its app got."""
    await at.register(**changes)
    session, _, _ = await at.reserve()
    answer = await at.call("GET", session["app_url"] + "/hello")
    assert answer.status == 202
    return session, at.app.requests[-1]


async def channels(at: Live, seen: dict[str, str], *names: str, token: str | None = None) -> Any:
    body = {"channels": [{"name": name, "mime_type": "video/mp2t"} for name in names]}
    headers = {"Livepeer-Session-Token": seen["Livepeer-Session-Token"] if token is None else token}
    return await at.post(seen["Livepeer-Session-Control"] + "/channels", json=body, headers=headers)


@BOTH
@pytest.mark.asyncio
async def test_requests_reach_the_app_with_four_headers_and_all_that_the_client_sent(dialect: str) -> None:
    async with live(dialect) as at:
        told = await at.register()
        session, _, _ = await at.reserve()
        answer = await at.call(
            "PUT", session["app_url"] + "/a/b%20c?x=1&y=two", data=b"body", headers={"X-Mine": "yes"}
        )
        assert answer.status == 202
        assert answer.json == {"method": "PUT", "path": "/a/b%20c?x=1&y=two", "body": "body"}
        seen = at.app.requests[-1]
        assert seen["Livepeer-Runner-Route"] == told["runner_id"]
        assert seen["Livepeer-Session-Id"] == session["session_id"]
        assert seen["Livepeer-Session-Token"]
        own = f"{at.url}/runner/{told['runner_id']}/session/{session['session_id']}"
        assert seen["Livepeer-Session-Control"] == own
        assert seen["X-Mine"] == "yes"
        assert (await at.call("GET", session["app_url"])).json["path"] == "/"


@BOTH
@pytest.mark.asyncio
async def test_an_app_that_is_away_is_502_and_a_session_that_is_over_404(dialect: str) -> None:
    async with live(dialect) as at:
        session, _ = await reserved(at)
        await at.app.stop()
        assert (await at.call("GET", session["app_url"] + "/x")).status == 502
        await at.post(session["control_url"] + "/stop")
        assert (await at.call("GET", session["app_url"] + "/x")).status == 404


@BOTH
@pytest.mark.asyncio
async def test_a_websocket_goes_both_ways_and_a_node_cuts_it_with_the_session(dialect: str) -> None:
    async with live(dialect) as at:
        session, _ = await reserved(at)
        async with at.http.ws_connect(session["app_url"] + "/ws") as socket:
            await socket.send_str("hello")
            assert await within(socket.receive_str()) == "you said hello"
            await at.post(session["control_url"] + "/stop")
            if dialect == "node":
                ended = await within(socket.receive())
                assert ended.type in (
                    aiohttp.WSMsgType.CLOSED,
                    aiohttp.WSMsgType.CLOSE,
                    aiohttp.WSMsgType.ERROR,
                )
            else:
                await socket.send_str("still there")
                assert await within(socket.receive_str()) == "you said still there"


@BOTH
@pytest.mark.asyncio
async def test_events_are_passed_on_as_they_come_and_a_node_cuts_them_with_the_session(dialect: str) -> None:
    async with live(dialect) as at:
        session, _ = await reserved(at)
        async with at.http.get(session["app_url"] + "/events") as answer:
            assert answer.content_type == "text/event-stream"
            assert await within(answer.content.readline()) == b"data: first\n"
            await at.post(session["control_url"] + "/stop")
            if dialect == "node":
                with pytest.raises(aiohttp.ClientPayloadError):
                    await within(answer.read())
            else:
                while await within(answer.content.readline()) != b": still there\n":
                    pass


@BOTH
@pytest.mark.asyncio
async def test_stop_ends_a_session_once_and_a_second_one_finds_nothing(dialect: str) -> None:
    async with live(dialect) as at:
        session, _ = await reserved(at)
        stop = session["control_url"] + "/stop"
        first, second = await at.post(stop), await at.post(stop)
        if dialect == "go":
            assert (first.status, second.status) == (204, 204)
        else:
            assert (first.status, first.json, second.status) == (200, {"ok": True}, 404)
        assert (await at.post(f"{at.url}/apps/nobody/session/x/stop")).status == 404
        assert (await at.audit())["capacity_in_use"] == 0
        await at.reserve()  # its slot is free again


@BOTH
@pytest.mark.asyncio
async def test_the_app_makes_channels_with_its_token_and_they_end_with_the_session(dialect: str) -> None:
    async with live(dialect) as at:
        session, seen = await reserved(at)
        made = (await channels(at, seen, "in", "out")).json["channels"]
        assert [one["name"] for one in made] == ["in", "out"]
        sid = session["session_id"]
        for one in made:
            name = one["channel_name"]
            assert name.startswith("channel_") if dialect == "node" else name == f"{sid}-{one['name']}"
            assert one["url"] == one["internal_url"] == f"{at.url}/ai/trickle/{name}"
            assert one["mime_type"] == "video/mp2t"
        url = made[0]["url"]
        assert (await at.post(f"{url}/0", data=b"segment")).status == 200
        got = await at.call("GET", f"{url}/0")
        assert (got.body, got.headers["Content-Type"]) == (b"segment", "video/mp2t")
        waiting = spawn(at.call("GET", f"{url}/1"), name="reader")
        await eventually(lambda: at.orchestrator.trickle.awaited() == [made[0]["channel_name"]])
        await at.post(session["control_url"] + "/stop")
        ended = await within(waiting)
        assert (ended.status, ended.headers[wire.CLOSED]) == (200, wire.TERMINATED)
        assert (await at.call("GET", f"{url}/1")).status == 404
        assert (await at.post(f"{url}/1", data=b"x")).status == 404
        assert (await at.audit())["channels"] == 0


@BOTH
@pytest.mark.asyncio
async def test_channels_need_the_sessions_own_token(dialect: str) -> None:
    async with live(dialect) as at:
        _, seen = await reserved(at)
        refused = await channels(at, seen, "in", token="another")
        assert refused.status == {"go": 401, "node": 403}[dialect]
        stop = await at.post(seen["Livepeer-Session-Control"] + "/stop")
        assert stop.status == {"go": 401, "node": 403}[dialect]


@BOTH
@pytest.mark.asyncio
async def test_the_app_may_remove_channels_and_stop_its_session(dialect: str) -> None:
    async with live(dialect) as at:
        session, seen = await reserved(at)
        url = (await channels(at, seen, "text")).json["channels"][0]["url"]
        control = seen["Livepeer-Session-Control"]
        own = {"Livepeer-Session-Token": seen["Livepeer-Session-Token"]}
        removed = await at.call("DELETE", f"{control}/channels", json={"channels": ["text"]}, headers=own)
        assert removed.json == {"deleted": ["text"]}
        assert (await at.call("GET", f"{url}/next")).status == 404
        assert (await at.post(f"{control}/stop", headers=own)).status in (200, 204)
        assert (await at.call("GET", session["app_url"])).status == 404


@pytest.mark.parametrize(
    "body", [{}, {"channels": "in"}, {"channels": [{"name": "in"}]}, {"channels": [{"mime_type": "x"}]}]
)
@pytest.mark.asyncio
async def test_a_request_for_channels_that_is_none_is_400(body: Any) -> None:
    async with live() as at:
        _, seen = await reserved(at)
        own = {"Livepeer-Session-Token": seen["Livepeer-Session-Token"]}
        url = seen["Livepeer-Session-Control"] + "/channels"
        assert (await at.post(url, json=body, headers=own)).status == 400
        many = {"channels": [{"name": f"c{n}", "mime_type": "x"} for n in range(26)]}
        assert (await at.post(url, json=many, headers=own)).status == 400


@pytest.mark.asyncio
async def test_a_node_takes_segments_of_ten_million_bytes_and_no_byte_more() -> None:
    async with live("node") as at:
        _, seen = await reserved(at)
        url = (await channels(at, seen, "in")).json["channels"][0]["url"]
        assert (await at.post(f"{url}/0", data=io.BytesIO(bytes(MAX_NODE_SEGMENT)))).status == 200
        assert (await at.post(f"{url}/1", data=io.BytesIO(bytes(MAX_NODE_SEGMENT + 1)))).status == 413
        # it is closed, and the next one is taken
        assert (await at.call("GET", f"{url}/next")).text == "2"
        assert (await at.post(f"{url}/2", data=b"x")).status == 200


@pytest.mark.asyncio
async def test_a_node_serves_256_streams_at_once_and_control_calls_beside_them() -> None:
    async with live("node") as at:
        session, seen = await reserved(at)
        url = (await channels(at, seen, "in")).json["channels"][0]["url"]
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as many:
            waiting = [spawn(_status(many, f"{url}/0"), name="reader") for _ in range(256)]

            async def busy() -> bool:
                answer = await at.call("GET", f"{url}/next")
                return answer.status == 503 and answer.json == {"error": "server busy"}

            await eventually(busy)
            assert (await at.call("GET", f"{at.url}/discovery")).status == 200
            await at.post(session["control_url"] + "/stop")
            assert set(await within(asyncio.gather(*waiting))) <= {200, 404}


async def _status(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(url) as answer:
        return answer.status


@BOTH
@pytest.mark.asyncio
async def test_an_orchestrator_may_end_a_session_by_itself(dialect: str) -> None:
    async with live(dialect) as at:
        session, _ = await reserved(at)
        assert (await at.post(f"{at.url}/devnet/release")).status == 204
        assert (await at.call("GET", session["app_url"])).status == 404
