"""The devnet as a whole, as processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from gateway.devnet.devnet import Devnet
from gateway.devnet.settings import DEVNET_FLAGS, DevnetSettings
from gateway.flags import parse_flags
from harness.gateway import READY_DEADLINE
from harness.waiting import DEADLINE, eventually

pytestmark = pytest.mark.heavy

COMMAND = [sys.executable, "-m", "gateway.devnet"]


def settings(*argv: str) -> DevnetSettings:
    return DevnetSettings.from_parsed(parse_flags(DEVNET_FLAGS, argv, {}, program="livepeer-devnet"))


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pids(description: dict[str, Any]) -> list[int]:
    orchestrators = [orchestrator["pid"] for orchestrator in description["orchestrators"]]
    return [description["signer_pid"], description["runner_pid"], *orchestrators]


async def get(url: str) -> Any:
    async with aiohttp.ClientSession() as http, http.get(url, ssl=False) as answer:
        assert answer.status == 200
        return await answer.json()


@asynccontextmanager
async def devnet(*argv: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """`livepeer-devnet` with what it printed."""
    process = await asyncio.create_subprocess_exec(*COMMAND, *argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(READY_DEADLINE):
            line = await process.stdout.readline()
        yield process, json.loads(line)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.asyncio
async def test_every_part_is_where_the_line_says_and_sigterm_ends_them_all(tmp_path: Path) -> None:
    async with devnet("-orchestrators", "2", "-dataDir", str(tmp_path)) as (process, line):
        assert (await get(line["runner"] + "/health"))["status"] == "OK"
        assert (await get(line["signer_audit_url"]))["signings"] == 0
        discovered = await get(
            line["signer"] + "/discover-orchestrators?caps=live-video-to-video/comfystream"
        )
        first, second = line["orchestrators"]
        assert [entry["address"] for entry in discovered] == [first["addr"], second["addr"]]
        assert (first["price_wei_per_second"], second["price_wei_per_second"]) == (
            str(10**15),
            str(2 * 10**15),
        )
        for orchestrator in (first, second):
            assert (await get(orchestrator["audit_url"]))["payments"] == 0
            assert orchestrator["address"].startswith("0x")
        models = json.loads((tmp_path / "devnet" / "aiModels.json").read_text())
        assert models[0]["url"] == line["runner"]
        assert all(runs(pid) for pid in pids(line))
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE):
            assert await process.wait() == 0
        assert not [pid for pid in pids(line) if runs(pid)]


@pytest.mark.parametrize("dialect", ["go", "node"])
@pytest.mark.asyncio
async def test_live_runners_stand_in_the_line_and_end_with_it(dialect: str) -> None:
    argv = ("-orchestrators", "0", "-runners", "2", "-dialect", dialect)
    async with devnet(*argv) as (process, line):
        assert line["orchestrators"] == []
        apps, prices = [], []
        for runner in line["runners"]:
            assert set(runner) == {
                "url",
                "app",
                "dialect",
                "address",
                "price_wei_per_second",
                "pid",
                "app_pid",
                "app_url",
                "audit_url",
                "hostile",
            }
            assert (await get(runner["app_url"] + "/devnet/jobs"), runner["hostile"]) == ([], "none")
            assert runner["dialect"] == dialect
            assert (await get(runner["audit_url"]))["credited_wei"] == "0"
            [listed] = (await get(runner["url"] + "/discovery"))[0]["runners"]
            apps.append((listed["app"], runner["app"]))
            prices.append((str(listed["price_info"]["price"]), runner["price_wei_per_second"]))
        assert apps == [("livepeer-example/echo", "livepeer-example/echo")] * 2
        assert prices == [(str(10**15),) * 2, (str(2 * 10**15),) * 2]
        found = await get(line["signer"] + "/discover-orchestrators")
        assert [entry["address"] for entry in found] == [runner["url"] for runner in line["runners"]]
        assert ("capabilities" in found[0]) == (dialect == "go")
        own = [pid for runner in line["runners"] for pid in (runner["pid"], runner["app_pid"])]
        assert all(runs(pid) for pid in own)
        process.kill()
        await eventually(lambda: not [pid for pid in own if runs(pid)])


@pytest.mark.asyncio
async def test_an_app_that_died_comes_back_and_registers_anew(tmp_path: Path) -> None:
    network = Devnet(settings("-orchestrators", "0", "-runners", "1", "-restart"), tmp_path)
    [before] = (await network.start())["runners"]
    try:
        os.kill(before["app_pid"], signal.SIGKILL)

        async def is_back() -> bool:
            return (
                len((await get(before["url"] + "/discovery"))[0]["runners"]) == 2
            )  # the dead one's time is not up

        await eventually(is_back)
        [after] = network.description()["runners"]
        assert after["app_pid"] != before["app_pid"]
        assert {**after, "app_pid": 0} == {**before, "app_pid": 0}
    finally:
        await network.stop()


@pytest.mark.asyncio
async def test_no_part_outlives_a_devnet_that_is_killed() -> None:
    async with devnet("-orchestrators", "1") as (process, line):
        process.kill()
        await eventually(lambda: not [pid for pid in pids(line) if runs(pid)])


@pytest.mark.asyncio
async def test_a_part_that_died_comes_back_where_and_who_it_was(tmp_path: Path) -> None:
    network = Devnet(settings("-orchestrators", "1", "-restart"), tmp_path)
    before = await network.start()
    try:
        for pid in pids(before):
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not set(pids(before)) & set(pids(network.description())))

        async def serves() -> bool:
            try:
                await get(before["signer_audit_url"])
                await get(before["runner"] + "/health")
                await get(before["orchestrators"][0]["audit_url"])
            except aiohttp.ClientError:
                return False
            return True

        await eventually(serves)
        assert _without_pids(network.description()) == _without_pids(before)
        listed = await get(before["signer"] + "/discover-orchestrators")
        assert listed[0]["address"] == before["orchestrators"][0]["addr"]
    finally:
        await network.stop()
    assert not [pid for pid in pids(network.description()) if runs(pid)]


@pytest.mark.asyncio
async def test_a_network_that_cannot_come_up_leaves_nothing_behind(tmp_path: Path) -> None:
    network = Devnet(settings("-orchestrators", "1"), tmp_path)
    (tmp_path / "devnet").mkdir()
    (tmp_path / "devnet" / "signer.key").write_text("no key")
    with pytest.raises(OSError, match="signer ended with status 2"):
        await network.start()
    children = psutil.Process().children()
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.asyncio
async def test_a_runner_runs_alone() -> None:
    async with devnet("runner", "-addr", "127.0.0.1:0", "-effect", "grey") as (process, line):
        assert (await get(line["runner"] + "/health"))["jobs"] == 0
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(DEADLINE):
            assert await process.wait() == 0


@pytest.mark.parametrize(
    ("argv", "program"),
    [
        (["-tokenLife", "2m"], "livepeer-devnet: -tokenLife"),
        (["-effects", "grey"], "livepeer-devnet: -effects"),
        (["-gateways", "2"], "livepeer-devnet: -gateways is for livepeer-gateway"),
        (["signers"], "livepeer-devnet: 'signers'"),
        (["orchestrator", "-tokenLife", "3m"], "livepeer-devnet orchestrator: -tokenLife"),
        (["orchestrator", "-aiModels", "/nowhere"], "livepeer-devnet orchestrator: -aiModels"),
        (["runner", "-effect", "sepia"], "livepeer-devnet runner: -effect"),
    ],
)
def test_bad_usage_ends_with_status_2_and_one_sentence(argv: list[str], program: str) -> None:
    done = subprocess.run([*COMMAND, *argv], check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stderr.startswith(program)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def _without_pids(description: dict[str, Any]) -> dict[str, Any]:
    orchestrators = [{**orchestrator, "pid": 0} for orchestrator in description["orchestrators"]]
    return {**description, "signer_pid": 0, "runner_pid": 0, "orchestrators": orchestrators}
