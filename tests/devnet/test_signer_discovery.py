"""What the devnet's signer lists: live runners too, filtered as each dialect does it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.devnet.signer import ListedOrchestrator
from tests.devnet.live_kit import APP, Live, live


async def found(at: Live, query: str = "") -> tuple[int, Any]:
    answer = await at.call("GET", f"{at.signer.url}/discover-orchestrators{query}")
    return answer.status, answer.json


def listed(at: Live, *others: ListedOrchestrator) -> None:
    at.signer.list_orchestrators([*others, ListedOrchestrator(address=at.url, runners=True)])


@pytest.mark.asyncio
async def test_go_livepeers_counts_an_app_as_a_capability_and_ignores_app_and_gpu() -> None:
    async with live("go") as at:
        job = ListedOrchestrator(address="127.0.0.1:1", capabilities=("live-video-to-video/comfystream",))
        listed(at, job)
        await at.register()
        status, entries = await found(at)
        assert (status, [entry["address"] for entry in entries]) == (200, ["127.0.0.1:1", at.url])
        assert entries[1]["capabilities"] == [APP]
        assert entries[1]["runners"] == (await at.discovery())[0]["runners"]
        assert [one["address"] for one in (await found(at, f"?caps={APP}"))[1]] == [at.url]
        other = await found(at, "?caps=live-video-to-video/comfystream")
        assert [one["address"] for one in other[1]] == ["127.0.0.1:1"]
        assert len((await found(at, "?app=another&gpu=none"))[1]) == 2


@pytest.mark.asyncio
async def test_go_livepeers_keeps_an_answer_for_25_minutes_and_lists_nobody_without_runners() -> None:
    async with live("go") as at:
        listed(at)
        assert await found(at) == (200, [])
        await at.register()
        price = (await found(at))[1][0]["runners"][0]["price_info"]
        await at.change(price_wei_per_second="7")
        assert (await at.runner())["price_info"]["price"] == 7
        assert (await found(at))[1][0]["runners"][0]["price_info"] == price


@pytest.mark.asyncio
async def test_a_nodes_filters_by_app_and_gpu_and_asks_anew_each_time() -> None:
    async with live("node") as at:
        assert (await found(at))[0] == 503
        listed(at)
        assert await found(at) == (200, [])
        await at.register(gpu={"id": "0", "name": "RTX 4090"})
        [entry] = (await found(at, "?caps=another"))[1]
        assert set(entry) == {"address", "score", "runners", "last_seen"}
        assert (entry["address"], entry["score"]) == (at.url, 1)
        for query, count in (
            (f"?app={APP}", 1),
            (f"?app=another&app={APP}", 1),
            ("?app=another", 0),
            ("?gpu=RTX 4090", 1),
            ("?gpu=RTX", 0),
            (f"?app={APP}&gpu=RTX", 0),
        ):
            assert len((await found(at, query))[1]) == count, query
        await at.change(price_wei_per_second="7")
        assert (await found(at))[1][0]["runners"][0]["price_info"]["price"] == 7


@pytest.mark.asyncio
async def test_a_nodes_is_503_where_nobody_answers_and_leaves_out_who_does_not() -> None:
    async with live("node") as at:
        away = ListedOrchestrator(address="http://127.0.0.1:1", runners=True)
        at.signer.list_orchestrators([away])
        assert (await found(at))[0] == 503
        listed(at, away)
        await at.register()
        assert len((await found(at))[1]) == 1
