"""An app that is started and updated by messages, on the devnet's orchestrators in both dialects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import structlog

from gateway.aio import tasks
from gateway.devnet.app.config import APPS, AppConfig
from gateway.devnet.app.server import serve
from gateway.orchestrator.errors import UnknownOutcome
from gateway.runner.control import MAX_SAID, ControlChannel, channels_of, unasked
from gateway.runner.errors import AppRefused
from gateway.runner.profile import Handshake, load_profiles
from gateway.runner.settings import SHIPPED_PROFILES
from gateway.trickle.errors import ChannelError
from harness.waiting import eventually, within
from tests.devnet.live_kit import SECRET, Live

PROFILE = load_profiles([SHIPPED_PROFILES])[APPS["messages"]]
assert PROFILE.handshake is not None
HANDSHAKE: Handshake = replace(PROFILE.handshake, ping=0.05)
LOG = structlog.get_logger("test")


class TalkingChannel(ControlChannel):
    """One that also says what needs no answer."""

    def say(self, message: dict[str, Any]) -> None:
        self._messages.publish(message)


@pytest_asyncio.fixture
async def started(network: Live) -> AsyncIterator[tuple[Live, TalkingChannel, dict[str, Any]]]:
    """A session's messages, and its control URL."""
    config = AppConfig(orchestrator=network.url, secret=SECRET, price="1", app=APPS["messages"])
    app = await serve(config)
    session, _, _ = await network.reserve(app=APPS["messages"])
    url = f"{session['app_url']}{PROFILE.start.path}"
    assert (await network.post(url, json={"params": {}})).status == 401
    answer = (await network.post(url, json=dict(PROFILE.start.body))).json
    connector = aiohttp.TCPConnector(limit=0, ssl=False)
    async with aiohttp.ClientSession(connector=connector) as http:
        channel = TalkingChannel(
            http,
            answer["control_url"],
            answer["events_url"],
            HANDSHAKE,
            LOG,
            name="the app",
            tell=session.setdefault("told", []).append,
        )
        running = tasks.spawn(channel.run(), name="control", expected=(ChannelError,))
        yield network, channel, session
        await tasks.cancel(running)
    await app.stop()


@pytest.mark.asyncio
async def test_a_stream_is_loaded_started_and_updated_by_messages(
    started: tuple[Live, TalkingChannel, dict[str, Any]],
) -> None:
    network, channel, session = started
    with pytest.raises(AppRefused) as refused:
        await channel.start(HANDSHAKE.start, timeout=5)
    assert "no pipeline is loaded" in refused.value.full
    await channel.load({}, timeout=5)
    with pytest.raises(AppRefused) as refused:
        await channel.start({**HANDSHAKE.start, "graph": {"nodes": []}}, timeout=5)
    found = channels_of(await channel.start({**HANDSHAKE.start, "produces_audio": True}, timeout=5))
    assert set(found) == {"in", "out", "sound"}
    # a handshake that is done again is told no channels: who goes on has to know them
    assert channels_of(await channel.start(HANDSHAKE.start, timeout=5)) == {}
    assert await channel.update({"mode": "gray"}) == {}
    channel.say({"type": "nonsense"})
    await eventually(lambda: session["told"], what="what the app says unasked")
    assert session["told"] == [{"type": "error", "error": "unknown type 'nonsense'"}], "pings are answers"
    with pytest.raises(AppRefused):
        await channel.update({"mode": "sepia"})
    assert (await network.post(f"{session['control_url']}/stop")).status in (200, 204)
    with pytest.raises((UnknownOutcome, AppRefused)):
        await within(channel.load({}, timeout=0.2))


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (
            {"type": "pipeline_status", "status": "loading", "progress": 0.5},
            {"type": "pipeline_status", "status": "loading", "progress": 0.5},
        ),
        ({"type": "error", "error": "full", "manifest_id": "secret"}, {"type": "error", "error": "full"}),
        ({"type": "stream_started", "channels": [{"url": "https://a/secret"}]}, {"type": "stream_started"}),
        ({"type": "error", "message": "see https://a/secret"}, {"type": "error"}),
        ({"type": "error", "message": "x" * 10**5}, {"type": "error", "message": "x" * MAX_SAID}),
        ({"type": 7, "message": "x"}, {}),
        ({"message": "x"}, {}),
    ],
)
def test_what_an_app_says_unasked_is_told_without_its_secrets(
    event: dict[str, Any], told: dict[str, Any]
) -> None:
    assert unasked(event) == told


def test_sound_has_its_own_channel_and_what_makes_no_sense_is_none() -> None:
    channels: list[Any] = [
        {"url": "https://a/1", "direction": "out", "mime_type": "audio/MP2T", "role": "output_audio"},
        {"url": "https://a/2", "direction": "out", "mime_type": "video/MP2T"},
        {"url": "https://a/3", "direction": "in"},
        {"url": 7, "direction": "in"},
        "https://a/4",
    ]
    assert channels_of({"channels": channels}) == {
        "sound": "https://a/1",
        "out": "https://a/2",
        "in": "https://a/3",
    }
    deaf = {"url": "https://a/5", "direction": "in", "mime_type": "audio/MP2T"}
    assert channels_of({"channels": [deaf]}) == {}
    assert channels_of({}) == channels_of({"channels": {}}) == {}
