"""Live runners register by heartbeat or are configured; discovery shows those that are ready."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from eth_hash.auto import keccak
from grpclib.client import Channel, UnaryUnaryMethod

from gateway.devnet.live_runners.config import LiveConfig
from gateway.devnet.live_runners.dialect import DIALECTS, GO, NODE
from gateway.devnet.live_runners.price import BadPrice, RunnerPrice, price_of, read_price, usd_per_hour
from gateway.devnet.live_runners.server import serve
from gateway.devnet.orchestrator.compatibility import compatible
from gateway.orchestrator.livepeer_pb2 import OrchestratorInfo, OrchestratorRequest
from harness.waiting import eventually, within
from tests.devnet.live_kit import APP, SECRET, WEI_PER_SECOND, live
from tests.devnet.peer import ASKED, unverified

BOTH = pytest.mark.parametrize("dialect", ["go", "node"])


@pytest.mark.parametrize(
    ("dialect", "unit", "price"),
    [
        (GO, "hour", RunnerPrice(1388888888888, "seconds", Fraction(10))),
        (NODE, "hour", RunnerPrice(1388888888889, "seconds", Fraction(10))),
        (GO, "720p", RunnerPrice(50234, "720p-pixel-seconds", Fraction(10))),
        (GO, "fixed", RunnerPrice(5 * 10**15, "fixed", Fraction(10))),
        (NODE, "fixed", RunnerPrice(5 * 10**15, "fixed", Fraction(10))),
    ],
)
def test_ten_dollars_are_so_many_whole_wei_at_2000_dollars_an_ether(
    dialect: Any, unit: str, price: RunnerPrice
) -> None:
    assert read_price({"price": 10, "unit": unit}, dialect) == price
    assert read_price({"price": "10.0", "currency": " USD ", "unit": unit.upper()}, dialect) == price


def test_a_price_in_wei_survives_the_way_through_dollars() -> None:
    for wei in (1, 999_999_999_999_999, 10**15, 123_456_789_012_345_678):
        assert price_of(Fraction(usd_per_hour(Fraction(wei))), "hour", GO).wei == wei
        assert price_of(Fraction(usd_per_hour(Fraction(wei))), "hour", NODE).wei == wei


@pytest.mark.parametrize(
    "price_info",
    [
        None,
        {"price": 0},
        {"price": -1},
        {"price": "1/3"},
        {"price": True},
        {"price": "ten"},
        {"price": 1, "currency": "eur"},
        {"price": 1, "unit": "day"},
        {"price": 10**30},
    ],
)
def test_a_price_that_is_none_is_refused(price_info: object) -> None:
    with pytest.raises(BadPrice):
        read_price(price_info, GO)


def test_a_node_takes_no_price_by_720p_pixels() -> None:
    with pytest.raises(BadPrice):
        read_price({"price": 10, "unit": "720p"}, NODE)


@BOTH
@pytest.mark.asyncio
async def test_a_heartbeat_registers_and_the_answer_has_what_the_app_needs(dialect: str) -> None:
    async with live(dialect) as at:
        told = await at.register(version="1.2", metadata="free text", gpu={"id": "0", "name": "RTX 4090"})
        assert told["orchestrator"] == at.url
        assert told["heartbeat_interval"] == "5s"
        assert told["heartbeat_ttl"] == {"go": "20s", "node": "30s"}[dialect]
        assert told["session_ids"] == []
        assert set(told["o2r"]) == {"name", "channel_name", "url", "internal_url", "mime_type"}
        again = await at.heartbeat(runner_id=told["runner_id"], authorization=told["heartbeat_secret"])
        assert again.status == 200
        assert again.json["runner_id"] == told["runner_id"]
        assert not {"heartbeat_secret", "o2r"} & set(again.json)


@BOTH
@pytest.mark.asyncio
async def test_a_wrong_secret_is_401_and_a_forgotten_runner_registers_anew(dialect: str) -> None:
    async with live(dialect) as at:
        assert (await at.heartbeat(authorization="wrong")).status == 401
        told = await at.register()
        own = told["runner_id"]
        assert (await at.heartbeat(runner_id=own, authorization="wrong")).status == 401
        gone = f"{at.url}/runners/{own}/unregister"
        assert (await at.post(gone, headers={"Authorization": "wrong"})).status == 401
        secret = told["heartbeat_secret"]
        assert (await at.post(gone, headers={"Authorization": secret})).status in (200, 204)
        assert (await at.heartbeat(runner_id=own, authorization=secret)).status == 401
        assert (await at.heartbeat(runner_id=own)).json["runner_id"] == own


@pytest.mark.parametrize(
    "change",
    [
        {"runner_url": "ftp://x"},
        {"app": ""},
        {"mode": "batch"},
        {"capacity": -1},
        {"capacity": "1"},
        {"session_ids": [1]},
        {"runner_id": "a/b"},
        {"price_info": {"price": 0}},
    ],
)
@pytest.mark.asyncio
async def test_a_heartbeat_that_is_none_is_400(change: dict[str, Any]) -> None:
    async with live() as at:
        assert (await at.heartbeat(**change)).status == 400


@pytest.mark.asyncio
async def test_discovery_has_go_livepeers_fields() -> None:
    async with live("go") as at:
        assert (await at.call("GET", f"{at.url}/discovery")).status == 404
        told = await at.register(gpu={"id": "0", "name": "RTX 4090", "vram_mb": 24564})
        [entry] = await at.discovery()
        assert entry["address"] == at.url
        assert entry["runners"] == [
            {
                "url": f"{at.url}/apps/{told['runner_id']}/session",
                "app": APP,
                "mode": "persistent",
                "capacity": 1,
                "capacity_used": 0,
                "capacity_available": 1,
                "gpu": {"id": "0", "name": "RTX 4090", "vram_mb": 24564},
                "price_info": {"price": WEI_PER_SECOND, "currency": "wei", "unit": "seconds"},
            }
        ]


@pytest.mark.asyncio
async def test_a_nodes_discovery_has_the_price_in_dollars_as_a_number_too() -> None:
    async with live("node") as at:
        await at.register(price="0.1")
        answer = await at.call("GET", f"{at.url}/discovery")
        assert b'"price_usd":0.000027777777777777777777777777777778' in answer.body
        info = answer.json[0]["runners"][0]["price_info"]
        assert (info["price"], info["currency"], info["unit"]) == (13888888889, "wei", "seconds")


@BOTH
@pytest.mark.asyncio
async def test_a_full_runner_is_listed_by_go_livepeer_and_not_by_a_node(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register()
        await at.reserve()
        [entry] = await at.discovery()
        if dialect == "go":
            assert entry["runners"][0]["capacity_available"] == 0
        else:
            assert entry["runners"] == []


@BOTH
@pytest.mark.asyncio
async def test_a_runner_without_a_heartbeat_is_gone_and_its_session_with_it(dialect: str) -> None:
    async with live(dialect) as at:
        told = await at.register()
        session, _, _ = await at.reserve()
        # its own clock is the orchestrator's: what is owed meanwhile is not what this is about
        await at.change(debit_rate="0")
        at.clock.advance({"go": 19, "node": 29}[dialect])
        assert "runners" in (await at.discovery())[0]
        at.clock.advance(2)

        async def gone() -> bool:
            return (await at.post(session["control_url"] + "/payment")).status == 404

        await eventually(gone)
        await eventually(lambda: told["runner_id"] not in at.orchestrator.registry.runners)
        [ended] = (await at.audit())["sessions"].values()
        assert (ended["ended"], ended["end_reason"]) == (True, "no heartbeat came")


@pytest.mark.asyncio
async def test_a_runner_that_is_not_ready_is_neither_listed_nor_reserved() -> None:
    async with live("go") as at:
        told = await at.register(status="loading")
        assert await at.discovery() == [{"address": at.url}]
        assert (await at.post(f"{at.url}/apps/{told['runner_id']}/session")).status == 404


@pytest.mark.asyncio
async def test_a_configured_runner_is_ready_while_it_is_healthy() -> None:
    async with live("go", health_interval=0.02) as at:
        static = {
            "runner_url": at.app.url,
            "app": APP,
            "capacity": 2,
            "price_info": {"price": 7200},
            "health_url": "/healthz",
        }
        at.orchestrator.registry.configure(static)
        found = at.orchestrator.registry

        await eventually(lambda: "runners" in found.discovery()[0])
        session, _, _ = await at.reserve()
        await at.app.stop()
        await eventually(lambda: "runners" not in found.discovery()[0])
        assert (await at.post(session["control_url"] + "/payment")).status == 404


@pytest.mark.asyncio
async def test_go_livepeer_has_grpc_on_the_same_port_where_it_offers_no_model() -> None:
    async with live("go") as at:
        host, port = at.url.removeprefix("https://").rsplit(":", 1)
        channel = Channel(host, int(port), ssl=unverified(["h2"]))
        account = at.sender.account
        request = OrchestratorRequest(
            address=account.raw_address,
            sig=account.sign(keccak(account.address.encode())),
            capabilities=ASKED,
        )
        ask = UnaryUnaryMethod[OrchestratorRequest, OrchestratorInfo](
            channel, "/net.Orchestrator/GetOrchestrator", OrchestratorRequest, OrchestratorInfo
        )
        try:
            info = await within(ask(request))
        finally:
            channel.close()
        assert info.transcoder == at.url
        assert not info.capabilities.constraints.PerCapability
        assert not compatible(ASKED, info.capabilities)
        # and HTTP beside it
        await at.register()
        await at.reserve()


@BOTH
@pytest.mark.asyncio
async def test_after_a_restart_nothing_is_known_and_old_headers_are_403(dialect: str) -> None:
    async with live(dialect) as at:
        await at.register(runner_id="echo")
        session, challenge, _ = await at.reserve()
        signed = await at.signed(challenge)
        port = int(at.url.rsplit(":", 1)[1])
        await at.orchestrator.stop()
        at.orchestrator = await serve(
            LiveConfig(key=bytes([1]) * 32, dialect=DIALECTS[dialect], secret=SECRET, port=port)
        )
        try:
            assert (await at.post(session["control_url"] + "/payment")).status == 404
            await at.register(runner_id="echo")
            again = await at.pay((await at.runner())["url"], signed)
            assert again.status == 403
            await at.reserve()
        finally:
            await at.orchestrator.stop()


@BOTH
@pytest.mark.asyncio
async def test_the_app_learns_of_its_sessions_by_its_channel(dialect: str) -> None:
    async with live(dialect) as at:
        channel = (await at.register())["o2r"]["internal_url"]
        session, _, _ = await at.reserve()
        await at.post(session["control_url"] + "/stop")
        told = [(await within(at.call("GET", f"{channel}/{number}"))).json for number in (0, 1)]
        assert [(one["event"], one["session"]) for one in told] == [
            ("reserved", session["session_id"]),
            ("released", session["session_id"]),
        ]


@pytest.mark.asyncio
async def test_off_chain_a_session_costs_nothing_and_nothing_is_challenged() -> None:
    for dialect in ("go", "node"):
        async with live(dialect, paid=False) as at:
            await at.register()
            runner = await at.runner()
            answer = await at.post(runner["url"])
            assert answer.status == 200
            assert answer.json["session_id"].startswith("session_")
            assert set(answer.json) == {"session_id", "app_url", "control_url"}
            if dialect == "go":
                assert "price_info" not in runner
            else:
                assert runner["price_info"] == {"price": 0, "currency": "", "unit": ""}
            assert (await at.post(runner["url"])).status == {"go": 503, "node": 409}[dialect]
            assert (await at.post(f"{answer.json['control_url']}/payment")).status == 404
