"""Apps of the devnet are started and updated as their profiles say, and their texts come."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import pytest
import structlog

from gateway.aio import tasks
from gateway.devnet.app.config import APPS, AppConfig
from gateway.devnet.app.server import serve
from gateway.orchestrator.errors import OrchestratorError
from gateway.runner.app_calls import AppCalls
from gateway.runner.app_start import MAX_AWAY, RETRY, AppChannels
from gateway.runner.client import RunnerClient, reach_of
from gateway.runner.errors import AppRefused
from gateway.runner.profile import load_profiles
from gateway.runner.settings import SHIPPED_PROFILES
from gateway.trickle.errors import ChannelError
from harness.waiting import SLACK, eventually, within
from tests.devnet.live_kit import SECRET, Live

PROFILES = load_profiles([SHIPPED_PROFILES])


async def calls_of(client: RunnerClient, network: Live, app: str) -> tuple[AppCalls, dict[str, Any]]:
    session, _, _ = await network.reserve(app=app)
    reach = await reach_of(network.url)
    calls = AppCalls(
        client, session["app_url"], reach, PROFILES[app], structlog.get_logger("test"), name="app"
    )
    return calls, session


@pytest.mark.asyncio
@pytest.mark.parametrize("start", APPS)
async def test_an_app_is_started_updated_and_stopped(start: str, client: RunnerClient, network: Live) -> None:
    app = APPS[start]
    serving = await serve(
        AppConfig(orchestrator=network.url, secret=SECRET, price="1", app=app, text=start == "http")
    )
    try:
        calls, session = await calls_of(client, network, app)
        running = tasks.spawn(calls.run(), name="app calls", expected=(ChannelError,))
        channels = await within(calls.start({"mode": "gray", "produces_audio": True}))
        assert channels.input and channels.output
        given = {name for name, url in asdict(channels).items() if url}
        more = {"text"} if start == "http" else {"control", "events", "sound"}
        assert given - {"input", "output"} == more
        await calls.update({"mode": "blur", "radius": 3})
        with pytest.raises(AppRefused) as refused:
            await calls.update({"mode": "sepia"})
        assert "mode must be one of" in refused.value.full
        if start == "http":
            await eventually(lambda: calls.text.get("type") == "text", what="the app's text")
        await client.stop(session["control_url"], await reach_of(network.url))
        if start == "messages":
            with pytest.raises(ChannelError):
                await within(running)
        else:
            await within(running)
    finally:
        await serving.stop()


@pytest.mark.asyncio
async def test_another_process_goes_on_with_messages(client: RunnerClient, network: Live) -> None:
    app = APPS["messages"]
    serving = await serve(AppConfig(orchestrator=network.url, secret=SECRET, price="1", app=app))
    try:
        first, session = await calls_of(client, network, app)
        running = tasks.spawn(first.run(), name="first", expected=(ChannelError,))
        channels = await within(first.start({}))
        await tasks.cancel(running)
        reach = await reach_of(network.url)
        second = AppCalls(
            client, session["app_url"], reach, PROFILES[app], structlog.get_logger("test"), name="app"
        )
        second.go_on(channels)
        running = tasks.spawn(second.run(), name="second", expected=(ChannelError,))
        assert await within(second.update({"mode": "gray"})) == {}
        await tasks.cancel(running)
    finally:
        await serving.stop()


def test_the_answer_to_a_call_has_both_channels_of_messages() -> None:
    profile = PROFILES[APPS["messages"]]
    answer = {"control_url": "https://a.example/c", "events_url": "/e"}
    channels = AppChannels.parse(answer, profile, "https://a.example/app")
    assert (channels.control, channels.events) == ("https://a.example/c", "https://a.example/e")
    with pytest.raises(ValueError, match="control_url"):
        AppChannels.parse({"events_url": "/e"}, profile, "https://a.example/app")


@pytest.mark.asyncio
async def test_an_app_that_is_gone_is_left_after_seconds(client: RunnerClient, network: Live) -> None:
    await network.register(runner_url="http://127.0.0.1:9")
    calls, _ = await calls_of(client, network, APPS["http"])
    began = time.monotonic()
    with pytest.raises(OrchestratorError, match="not ready in time"):
        await within(calls.start({}))
    assert MAX_AWAY - 2 * RETRY < time.monotonic() - began < SLACK * MAX_AWAY
