"""Bad orchestrators, signers and disks."""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.devnet.orchestrator.tls import server_context
from harness.devnet import devnet_process
from harness.gateway import BIN, gateway_process
from harness.ledger import credited, session_reasons
from harness.serving import serving
from harness.waiting import eventually
from harness.webrtc import WhipPublisher
from tests.e2e.sessions import PUBLISH, SDP
from tests.e2e.test_loop import clean_audits, ended
from tests.link.network import run_inside

pytestmark = pytest.mark.asyncio(loop_scope="module")


# orchestrators


REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
BEHAVIOURS: dict[str, tuple[bytes, bool]] = {
    "nothing": (b"", False),
    "garbage": (b"\xde\xad\xbe\xef" * 64, False),
    "redirect": (REDIRECT, False),
    "endless": (b"\x00" * 65_536, True),
}


@pytest_asyncio.fixture(loop_scope="module", params=["TLS", "plain"])
async def bad_orchestrators(request: pytest.FixtureRequest) -> AsyncIterator[list[str]]:
    """Addresses of servers that are no orchestrators: each behaves as its name says."""

    def behave(sent: bytes, again: bool) -> Any:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                writer.write(sent)
                await writer.drain()
                while again or await reader.read(65_536):
                    if again:
                        writer.write(sent)
                        await writer.drain()
                        await asyncio.sleep(0)  # which drain leaves out, and with it that nobody is there
            except OSError:
                pass
            finally:
                writer.close()

        return handle

    tls = server_context("127.0.0.1", alpn=["h2"]) if request.param == "TLS" else None
    servers = [
        await asyncio.start_server(behave(sent, again), "127.0.0.1", 0, ssl=tls)
        for sent, again in BEHAVIOURS.values()
    ]
    yield [f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
    for server in servers:
        server.close()


async def test_servers_that_are_no_orchestrators_are_passed_over(
    bad_orchestrators: list[str], http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    flags = ("-orchAddr", ",".join([*bad_orchestrators, "127.0.0.1:1"]))
    async with gateway_process(tmp_path, *flags, devnet=False, wait_ready=False) as gateway:
        await gateway.listening()

        async def judged() -> bool:
            listed = (await gateway.get("orchestrators"))["orchestrators"]
            return all(one["verdict"] in ("unreachable", "bad_answer") for one in listed)

        await eventually(judged, what="a verdict on each")
        async with http.post(gateway.live("cam/whip"), data=PUBLISH, headers=SDP) as response:
            problem = await response.json(content_type=None)
            assert (response.status, problem["code"]) == (503, "no_orchestrator")
            assert len(problem["candidates"]) == len(BEHAVIOURS) + 1
        async with http.get(gateway.url + "readyz") as response:
            assert response.status == 503
        await gateway.given_back()
        assert "Traceback" not in gateway.log.read_text()


async def test_an_orchestrator_elsewhere_that_names_our_loopback_is_passed_over() -> None:
    await asyncio.to_thread(run_inside, "tests.e2e.bad_input.elsewhere", timeout=100)


# the signer, while streams are paid for


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def _garbage(_: web.Request) -> web.Response:
    return web.Response(body=b"\xde\xad\xbe\xef")


async def _half(_: web.Request) -> web.Response:
    return web.json_response({"payment": "AAAA", "segCreds": None, "state": 7})


async def _never(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def _out_of_funds(_: web.Request) -> web.Response:
    return web.json_response({"error": {"message": "insufficient balance"}}, status=483)


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65_536)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def devnet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Any]]:
    """One for all who never pay there."""
    async with devnet_process(tmp_path_factory.mktemp("devnet")) as devnet:
        yield devnet


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (_garbage, "signer_unreachable"),
        (_half, "signer_unreachable"),
        (_endless, "signer_unreachable"),
        (_out_of_funds, "signer_refused"),
        pytest.param(_never, "signer_unreachable", marks=pytest.mark.long),  # is asked again before that
    ],
)
async def test_a_stream_whose_signer_signs_no_ticket_ends_with_that_reason(
    answer: Answer, reason: str, devnet: dict[str, Any], http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async def identity(_: web.Request) -> web.Response:
        async with http.post(devnet["signer"] + "/sign-orchestrator-info") as response:
            return web.json_response(await response.json())

    routes = (web.post("/sign-orchestrator-info", identity), web.post("/generate-live-payment", answer))
    async with serving(*routes) as signer:
        flags = ("-remoteSignerUrl", signer, "-orchAddr", devnet["orchestrators"][0]["addr"])
        ledger = tmp_path / "ledger.sqlite3"
        async with gateway_process(
            tmp_path,
            *(*flags, "-maxPricePerUnit", "1ETH", "-ledger", str(ledger)),
            devnet=False,
        ) as gateway:
            async with WhipPublisher(http, gateway.live("cam/whip")):
                # one that is silent is asked four times, 5 s each
                end = (await ended(gateway, "cam", deadline=110))["ended"]
            assert end["reason"] == reason
            assert "signer" in end["detail"]
            await gateway.given_back()
            audit = await gateway.fetch(devnet["orchestrators"][0]["audit_url"])
            assert (audit["payments"], audit["sessions"]) == (0, {})
            assert "Traceback" not in gateway.log.read_text()
        assert credited(ledger) == 0
        assert None not in session_reasons(ledger)


# the disk


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Take every byte that is left on it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"\x00" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC
    try:
        yield
    finally:
        filler.unlink()


async def test_a_full_disk_ends_no_stream_and_is_reported_at_once(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=4m tmpfs {disk} && exec "$0" "$@"'
    program = ("unshare", "-rm", "sh", "-c", mount, BIN / "livepeer-gateway")
    flags = ("-livePaymentInterval", "500ms", "-dataDir", str(disk))
    async with gateway_process(tmp_path, *flags, program=program) as gateway:
        seen = Path(f"/proc/{gateway.pid}/root{disk}")

        async def paid() -> int:
            payments = (await gateway.status("cam"))["payments"]
            return int(payments["accepted"]) if payments else 0

        async def ready() -> int:
            async with http.get(gateway.url + "readyz") as response:
                assert response.status == 200 or "ledger" in await response.text()
                return response.status

        async def is_ready() -> bool:
            return await ready() == 200

        async def is_not_ready() -> bool:
            return await ready() == 503

        async def paid_again(before: int) -> bool:
            return await paid() >= before + 3

        async with WhipPublisher(http, gateway.live("cam/whip")) as publisher:
            await eventually(lambda: paid_again(0), what="payments")
            with filled(seen):
                await eventually(is_not_ready, what="readiness to say so")
                async with http.post(gateway.live("other/whip"), data=PUBLISH, headers=SDP) as response:
                    problem = await response.json(content_type=None)
                    assert (response.status, problem["code"]) == (503, "ledger_unavailable")
                assert (await gateway.status("cam"))["state"] == "live"
            await eventually(is_ready, what="readiness after the disk was freed")
            before = await paid()
            await eventually(lambda: paid_again(before), what="payments after the disk was freed")
            await publisher.stop()
            await ended(gateway, "cam")
        await gateway.given_back()
        for part in seen.glob("ledger.sqlite3*"):  # SQLite itself finds no way through /proc
            shutil.copy(part, tmp_path)
        ledger = tmp_path / "ledger.sqlite3"
        assert credited(ledger) == await clean_audits(gateway)
        assert session_reasons(ledger) == ["deleted"]
        assert "Traceback" not in gateway.log.read_text()
