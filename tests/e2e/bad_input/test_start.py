"""Failed starts: one sentence of explanation, and nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from harness.gateway import BIN, GatewayProcess, gateway_process
from harness.serving import serving
from harness.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def refuses_to_start(folder: Path, *flags: str, devnet: bool = False) -> tuple[int, str]:
    """The exit status and the last line. All that it started, temporary files too, has to be gone."""
    temporary = folder / "temporary"
    temporary.mkdir()
    program = ("env", f"TMPDIR={temporary}", BIN / "livepeer-gateway")
    async with gateway_process(folder, *flags, devnet=devnet, wait_ready=False, program=program) as gateway:
        status = await asyncio.wait_for(gateway.process.wait(), 40)
        said = gateway.log.read_text().strip()
    assert "Traceback" not in said
    await eventually(lambda: not processes_of(temporary), what="the end of all that it started")
    assert list(temporary.iterdir()) == []
    return status, said.splitlines()[-1]


def processes_of(temporary: Path) -> list[str]:
    """The processes that were told to use this folder."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(temporary).encode() in environment.read_bytes():
                found.append(environment.parent.name)
        except OSError:
            continue  # gone meanwhile, or somebody else's
    return found


async def silent() -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


def says(response: Callable[[], web.Response]) -> Callable[[], Awaitable[web.Response]]:
    async def answer() -> web.Response:
        return response()

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(says(lambda: web.Response(text="hello")), id="text"),
        pytest.param(says(lambda: web.json_response({"address": "0x12", "signature": 7})), id="no signature"),
        pytest.param(
            says(lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})), id="redirect"
        ),
        pytest.param(
            says(lambda: web.json_response({"address": "0x" + "1" * 40, "signature": "f" * 20_000_000})),
            id="20 MB",
        ),
        pytest.param(says(lambda: web.Response(status=500)), id="error 500"),
        pytest.param(silent, id="never"),
    ],
)
async def test_an_unusable_signer_is_reported_in_one_sentence(
    answer: Callable[[], Awaitable[web.Response]], tmp_path: Path
) -> None:
    async def handle(_: web.Request) -> web.Response:
        return await answer()

    async with serving(web.post("/sign-orchestrator-info", handle)) as signer:
        flags = ("-remoteSignerUrl", signer, "-orchAddr", "127.0.0.1:1", "-maxPricePerUnit", "1ETH")
        status, said = await refuses_to_start(tmp_path, *flags)
    assert status == 1
    assert said.startswith(f"livepeer-gateway: -remoteSignerUrl {signer}:")


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (("-htpAddr", "x"), 2, "did you mean -httpAddr?"),
        (("-orchAddr", "x:1", "-maxStreams", "many"), 2, "-maxStreams 'many' is refused"),
        (("-orchAddr", "x:1", "-httpAddr", "127.0.0.1:99999"), 2, "-httpAddr '127.0.0.1:99999' is refused"),
        (
            ("-orchAddr", "x:1", "-externalUrl", "https://x/?a=b"),
            2,
            "-externalUrl 'https://x/?a=b' is refused",
        ),
        (("-orchAddr", "x:1", "-ledger", "/dev/full/ledger"), 1, "/dev/full/ledger"),
        (
            ("-remoteSignerUrl", "http://127.0.0.1:1", "-maxPricePerUnit", "1ETH"),
            1,
            "-remoteSignerUrl http://127.0.0.1:1: the signer did not give its address",
        ),
        (
            ("-orchAddr", "nowhere.invalid:1", "-httpsCert", "/etc/passwd", "-httpsKey", "/etc/passwd"),
            1,
            "PEM",
        ),
    ],
)
async def test_a_failed_start_is_explained_in_one_sentence(
    flags: tuple[str, ...], status: int, words: str, tmp_path: Path
) -> None:
    ended, said = await refuses_to_start(tmp_path, *flags)
    assert ended == status
    assert words in said


@pytest.mark.parametrize("devnet", [False, True])
async def test_a_port_in_use_is_reported_in_one_sentence(
    devnet: bool, daemon: GatewayProcess, tmp_path: Path
) -> None:
    taken = daemon.url.removeprefix("http://").rstrip("/")
    flags = ("-httpAddr", taken, *(() if devnet else ("-orchAddr", "127.0.0.1:1")))
    status, said = await refuses_to_start(tmp_path, *flags, devnet=devnet)
    assert status == 1
    assert said.startswith(f"livepeer-gateway: -httpAddr {taken} cannot be used")
