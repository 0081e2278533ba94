"""The devnet's app by itself: what it takes, how it warms up, how it registers."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import pytest

from gateway.aio.tasks import spawn
from gateway.devnet.app.config import AppConfig
from gateway.devnet.app.echo_request import BadEcho, read_params
from gateway.devnet.app.server import serve
from gateway.devnet.live_runners.price import usd_per_hour
from harness.waiting import eventually, within
from tests.devnet.live_kit import SECRET, WEI_PER_SECOND, Live, live


def config(at: Live, **changes: object) -> AppConfig:
    price = usd_per_hour(Fraction(WEI_PER_SECOND))
    return AppConfig(orchestrator=at.url, secret=SECRET, price=price, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "params"),
    [
        (b"", {}),
        (b"{}", {}),
        (b'{"mode": "echo"}', {"effect": "none"}),
        (b'{"mode": "gray"}', {"effect": "grey"}),
        (b'{"mode": "invert"}', {"effect": "negative"}),
        (b'{"mode": "blur", "radius": 99}', {"effect": "blur", "radius": 99}),
    ],
)
def test_modes_are_the_runners_effects(body: bytes, params: dict[str, object]) -> None:
    assert read_params(body) == params


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"mode": "sepia"}',
        b'{"mode": 1}',
        b'{"radius": 0}',
        b'{"radius": 100}',
        b'{"radius": true}',
    ],
)
def test_a_body_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(BadEcho):
        read_params(body)


@pytest.mark.asyncio
async def test_a_start_waits_for_the_warm_up_and_the_session_costs_meanwhile() -> None:
    async with live("node") as at:
        app = await serve(config(at, warm_up=0.3))
        try:
            session, _, _ = await at.reserve()
            starting = spawn(at.post(session["app_url"] + "/echo", json={}), name="start")
            await eventually(lambda: app.sessions == 1)
            early = await at.post(session["app_url"] + "/echo", json={})
            assert early.status == 409
            assert (await at.post(session["app_url"] + "/update", json={})).status == 404
            started = await within(starting)
            assert started.status == 200
            # asked again, it says the same
            assert (await at.post(session["app_url"] + "/echo", json={})).json == started.json
        finally:
            await app.stop()


@pytest.mark.asyncio
async def test_one_session_at_a_time_and_its_slot_is_free_once_it_is_released() -> None:
    async with live("go") as at:
        app = await serve(config(at))
        try:
            await at.change(capacity=2)  # more than the app said
            first, _, _ = await at.reserve()
            second, _, _ = await at.reserve()
            assert (await at.post(first["app_url"] + "/echo", json={})).status == 200
            busy = await at.post(second["app_url"] + "/echo", json={})
            assert (busy.status, busy.json) == (409, {"error": "another session is active"})
            await at.post(first["control_url"] + "/stop")
            await eventually(lambda: app.sessions == 0)
            assert (await at.post(second["app_url"] + "/echo", json={})).status == 200
        finally:
            await app.stop()


@pytest.mark.asyncio
async def test_bad_modes_are_400_and_a_request_past_the_orchestrator_too() -> None:
    async with live("go") as at:
        app = await serve(config(at))
        try:
            session, _, _ = await at.reserve()
            assert (await at.post(session["app_url"] + "/echo", json={"mode": "sepia"})).status == 400
            assert (await at.post(app.url + "/echo", json={})).status == 400
            assert (await at.post(session["app_url"] + "/echo", json={"mode": "blur"})).status == 200
            assert (await at.post(session["app_url"] + "/update", json={"radius": 0})).status == 400
            assert (await at.post(session["app_url"] + "/update", json={"radius": 3})).status == 200
        finally:
            await app.stop()


@pytest.mark.asyncio
async def test_an_app_that_stops_unregisters_and_its_session_ends() -> None:
    async with live("node") as at:
        app = await serve(config(at))
        session, _, _ = await at.reserve()
        await app.stop()
        assert (await at.discovery())[0]["runners"] == []
        assert (await at.post(session["control_url"] + "/payment")).status == 404


@pytest.mark.asyncio
async def test_an_app_registers_anew_where_it_was_forgotten() -> None:
    async with live("go") as at:
        app = await serve(config(at))
        try:
            registry = at.orchestrator.registry
            [runner] = registry.runners.values()
            registry.remove(runner, "a test forgot it")
            app.beat_soon()
            await eventually(lambda: list(registry.runners.values()) not in ([], [runner]))
        finally:
            await app.stop()


@pytest.mark.asyncio
async def test_an_app_with_a_wrong_secret_does_not_start() -> None:
    async with live("go") as at:
        with pytest.raises(OSError, match="401"):
            await serve(AppConfig(orchestrator=at.url, secret="wrong", price="1"))
        assert asyncio.get_running_loop().is_running()
