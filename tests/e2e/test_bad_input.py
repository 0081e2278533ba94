"""What strangers, broken programs and a hostile network send: one row each, answered and nothing left behind.

All rows against one daemon; those that are about its start or its network have one of their own.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiortc import RTCSessionDescription

from gateway.devnet.orchestrator.tls import server_context
from tests.clients.gateway import GatewayProcess, eventually, gateway_process
from tests.clients.webrtc import WhipPublisher, encoded_pattern
from tests.e2e.test_front_door import PUBLISH, SDP, WATCH

COUNTED = ("peers", "streams", "viewers", "trickle", "sessions", "held_bytes")
SLOWER = ("tasks_total", "fds", "threads")
"""What idle connections to orchestrators hold for some seconds: looked at once, after all rows."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    flags = ("-orchestrators", "1", "-connectTimeout", "2s", "-ingestTimeout", "1s")
    async with gateway_process(tmp_path_factory.mktemp("bad"), *flags) as gateway:
        before = await gateway.get("debug/state")
        yield gateway

        async def given_back() -> bool:
            after = await gateway.get("debug/state")
            return all(after[key] <= before[key] for key in SLOWER)

        await eventually(given_back, deadline=60, what="tasks and descriptors given back")


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(daemon: GatewayProcess) -> AsyncIterator[GatewayProcess]:
    """The daemon, which afterwards holds what it held before, and left nothing open upstream."""
    before = await daemon.get("debug/state")
    sessions = [set(audit["sessions"]) for audit in await daemon.audits()]
    yield daemon

    async def given_back() -> bool:
        after = await daemon.get("debug/state")
        return all(after[key] <= before[key] for key in COUNTED)

    await eventually(given_back, deadline=30, what="everything given back")
    for audit, known in zip(await daemon.audits(), sessions, strict=True):
        assert audit["rejected"] == audit["duplicate_nonces"] == 0
        opened = [session for name, session in audit["sessions"].items() if name not in known]
        assert all(session["ended"] for session in opened)
    log = daemon.log.read_text()
    assert "Traceback" not in log
    assert "request failed" not in log


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that keeps no connection."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


def without(pattern: str, offer: str = PUBLISH) -> str:
    changed = re.sub(pattern, "", offer, flags=re.MULTILINE)
    assert changed != offer
    return changed


BROKEN_FINGERPRINT = re.sub(r"(a=fingerprint:sha-256) \S+", r"\1 ZZ:11", PUBLISH)
UNKNOWN_HASH = PUBLISH.replace("a=fingerprint:sha-256", "a=fingerprint:md2")
VIDEO = re.search(r"^m=video.*?(?=^m=|\Z)", PUBLISH, re.MULTILINE | re.DOTALL)
assert VIDEO is not None


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        pytest.param("", "application/sdp", 400, "bad_sdp", id="empty"),
        pytest.param("hello", "application/sdp", 400, "bad_sdp", id="malformed"),
        pytest.param(b"\xff\xfe\x00", "application/sdp", 400, "bad_sdp", id="no text"),
        pytest.param("v=0\r\n" * 20, "application/sdp", 400, "bad_sdp", id="nothing but versions"),
        pytest.param(PUBLISH, "text/plain", 415, "unsupported_media_type", id="labelled as text"),
        pytest.param("{}", "application/json", 415, "unsupported_media_type", id="json"),
        pytest.param("v=0\r\n" + "a=x\r\n" * 20_000, "application/sdp", 413, "too_large", id="huge"),
        pytest.param(
            PUBLISH + "a=" + "x" * 100_000 + "\r\n", "application/sdp", 413, "too_large", id="100 kB line"
        ),
        pytest.param(without(r"^m=video(.|\n)*"), "application/sdp", 400, "no_video", id="no video"),
        pytest.param(without(r"^a=ice-.*\n"), "application/sdp", 400, "bad_sdp", id="no ICE"),
        pytest.param(without(r"^a=fingerprint.*\n"), "application/sdp", 400, "bad_sdp", id="no fingerprint"),
        pytest.param(BROKEN_FINGERPRINT, "application/sdp", 400, "bad_sdp", id="broken fingerprint"),
        pytest.param(UNKNOWN_HASH, "application/sdp", 400, "bad_sdp", id="unknown hash"),
        pytest.param(WATCH, "application/sdp", 400, "no_video", id="a viewer's offer"),
        pytest.param(
            PUBLISH.replace("H264", "AV1"), "application/sdp", 406, "no_common_codec", id="no codec"
        ),
        pytest.param(
            "v=0\r\n" + "m=video 9 X 1\r\n" * 99, "application/sdp", 400, "bad_sdp", id="99 sections"
        ),
    ],
)
async def test_an_offer_of_no_use_is_refused(
    body: str | bytes,
    content_type: str,
    status: int,
    code: str,
    gateway: GatewayProcess,
    http: aiohttp.ClientSession,
) -> None:
    headers = {"Content-Type": content_type}
    async with http.post(gateway.live("cam/whip"), data=body, headers=headers) as response:
        problem = await response.json(content_type=None)
        assert (response.status, problem["code"]) == (status, code)
        assert len(problem["detail"]) < 500


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "cam/whip?params={", PUBLISH, 400, "bad_json"),
        ("POST", "cam/whip?params=[1]", PUBLISH, 400, "bad_json"),
        ("POST", "cam/whip?streamId=a%20b", PUBLISH, 400, "bad_name"),
        ("POST", "cam/whip?streamId=x-out", PUBLISH, 400, "bad_name"),
        ("POST", "cam/whip?orchestrator=nobody", PUBLISH, 503, "no_orchestrator"),
        ("POST", "cam/whip?pipeline=unheard-of", PUBLISH, 503, "no_orchestrator"),
        ("POST", "x-out/whip", PUBLISH, 400, "bad_name"),
        ("POST", "a%2Fb/whip", PUBLISH, 400, "bad_name"),
        ("POST", "%F0%9F%98%80/whip", PUBLISH, 400, "bad_name"),
        ("POST", "x" * 129 + "/whip", PUBLISH, 400, "bad_name"),
        ("POST", "a%00b/whep", WATCH, 400, "bad_name"),
        ("POST", "cam/whep", PUBLISH, 400, "no_video"),
        ("POST", "nobody/update", "{}", 404, "unknown_stream"),
        ("GET", "nobody/status", None, 404, "unknown_stream"),
        ("GET", "%2e%2e/status", None, 404, "not_found"),
        ("PATCH", "cam/whip/nothing", "", 404, "unknown_session"),
        ("PUT", "cam/whip", "", 405, "method_not_allowed"),
        ("POST", "cam/nothing", "", 404, "not_found"),
    ],
)
async def test_a_request_of_no_use_is_refused(
    method: str,
    path: str,
    body: str | None,
    status: int,
    code: str,
    gateway: GatewayProcess,
    http: aiohttp.ClientSession,
) -> None:
    async with http.request(method, gateway.live(path), data=body, headers=SDP) as response:
        problem = await response.json(content_type=None)
        assert (response.status, problem["code"]) == (status, code)


async def test_deleting_what_never_was_changes_nothing(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    for path in ("cam/whip/0", "cam/whep/0", "%00/whip/%F0%9F%98%80"):
        async with http.delete(gateway.live(path)) as response:
            assert response.status == 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"1", b"NaN", b'{"a": NaN}', b"\xff", b"[" * 100_000, b'{"a":' * 50_000]
)
async def test_an_update_that_is_no_json_object_is_refused(
    body: bytes, gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    async with http.post(gateway.live("cam/whip"), data=PUBLISH, headers=SDP) as created:
        assert created.status == 201
    async with http.post(gateway.live("cam/update"), data=body) as response:
        problem = await response.json(content_type=None)
        assert (response.status, problem["code"]) == (400, "bad_json")
    async with http.delete(gateway.url.rstrip("/") + created.headers["Location"]) as response:
        assert response.status == 200


async def test_of_two_videos_the_first_is_taken(gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
    assert VIDEO is not None
    second = re.sub(r"a=mid:\S+", "a=mid:second", VIDEO[0])
    async with http.post(gateway.live("cam/whip"), data=PUBLISH + second, headers=SDP) as created:
        assert created.status == 201
        ports = re.findall(r"^m=video (\d+)", await created.text(), re.MULTILINE)
    assert [port != "0" for port in ports] == [True, False]
    await http.delete(gateway.url.rstrip("/") + created.headers["Location"])


@pytest.mark.long  # a body may take 10 s
async def test_a_body_that_never_comes_is_given_up(gateway: GatewayProcess) -> None:
    host, port = re.findall(r"//([^:]+):(\d+)/", gateway.url)[0]
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /live/video-to-video/cam/whip HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n"
        b"Content-Length: 1000\r\n\r\nv=0"
    )
    assert b" 408 " in await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00" * 1000,
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"POST /live/video-to-video/cam/whip HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
    ids=["zeros", "a header of 100 kB", "a negative length", "a broken chunk", "TLS"],
)
async def test_what_is_no_http_is_refused(sent: bytes, gateway: GatewayProcess) -> None:
    host, port = re.findall(r"//([^:]+):(\d+)/", gateway.url)[0]
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    assert re.match(rb"HTTP/1.[01] 4\d\d", await asyncio.wait_for(reader.read(4096), 10))
    writer.close()
    await writer.wait_closed()


async def test_a_thousand_that_never_connect_are_bounded_and_gone(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    async def post(number: int) -> int:
        url = gateway.live(f"cam{number}/whip")
        async with http.post(url, data=PUBLISH, headers=SDP) as response:
            return response.status

    statuses = await asyncio.gather(*(post(number) for number in range(1000)))
    assert set(statuses) <= {201, 429, 503}  # 503 while so many keep the event loop late
    assert 0 < statuses.count(201) <= 256

    async def served_again() -> bool:
        async with http.post(gateway.live("after/whip"), data=PUBLISH, headers=SDP) as response:
            return response.status == 201

    await eventually(served_again, deadline=30, every=0.5, what="a publisher that is served after them")


# peers that connect, or try to


class ForgedPublisher(WhipPublisher):
    """A publisher whose offer is changed on its way."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, change: Callable[[str], str] = str, **options: Any
    ) -> None:
        super().__init__(http, url, **options)
        self._change = change
        self.answer = ""

    async def __aenter__(self) -> ForgedPublisher:
        try:
            await self._offer()
        except BaseException:
            await self.peer.close()
            raise
        return self

    async def _offer(self) -> None:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        offer = self._change(self.peer.localDescription.sdp)
        async with self._http.post(self._url, data=offer, headers=SDP) as response:
            assert response.status == 201, await response.text()
            self.answer = await response.text()
            self.location = response.headers["Location"]
        await self.peer.setRemoteDescription(RTCSessionDescription(self.answer, "answer"))

    async def connected(self) -> None:
        await eventually(lambda: self.peer.connectionState == "connected", what="the connection")

    async def send(self, payload_type: int, payload: bytes, sequence: int = 1) -> None:
        """One RTP packet of our making, through the keys of the connection."""
        header = struct.pack("!BBHII", 0x80, 0x80 | payload_type, sequence, 0, 0x1234)
        await self.peer.getSenders()[0].transport._send_rtp(header + payload)


async def end_of(gateway: GatewayProcess, name: str) -> dict[str, Any]:
    async def ended() -> Any:
        return (await gateway.status(name))["ended"]

    return dict(await eventually(ended, deadline=30, what=f"the end of {name}"))


def forged_fingerprint(offer: str) -> str:
    return re.sub(r"(a=fingerprint:sha-256 )\S+", r"\1" + ":".join(["AB"] * 32), offer)


async def test_a_certificate_of_another_fingerprint_is_refused(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    async with ForgedPublisher(http, gateway.live("forged/whip"), forged_fingerprint):
        ended = await end_of(gateway, "forged")
    assert ended["reason"] == "ingest_timeout"
    assert "fingerprint" in ended["detail"]


async def test_candidates_that_lead_nowhere_end_the_stream_with_what_to_open(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    nowhere = without(r"^a=candidate.*\n") + "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n" * 100
    async with http.post(gateway.live("nowhere/whip"), data=nowhere, headers=SDP) as response:
        assert response.status == 201
    ended = await end_of(gateway, "nowhere")
    assert ended["reason"] == "ingest_timeout"
    assert "UDP" in ended["detail"]


async def test_garbage_beside_and_inside_the_media_changes_nothing(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    async with ForgedPublisher(http, gateway.live("garbage/whip")) as publisher:
        await publisher.connected()
        port = int(re.findall(r"a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 (\d+) ", publisher.answer)[0])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for first in range(256):
                stranger.sendto(bytes([first]) * 200, ("127.0.0.1", port))
            stranger.sendto(b"", ("127.0.0.1", port))
        video = int(re.findall(r"^m=video \d+ \S+ (\d+)", publisher.answer, re.MULTILINE)[0])
        for number, payload in enumerate(
            [b"", b"\x00", b"\x7c", b"\x78\xff\xff", b"\x7c\x85", b"\xff" * 1200]
        ):
            await publisher.send(video, payload, number)
        for payload_type in (0, 33, 77, 127):
            await publisher.send(payload_type, b"\x65" * 500)

        async def live() -> bool:
            return (await gateway.status("garbage"))["state"] == "live"

        await eventually(live, what="the stream in spite of it")
        await publisher.stop()
    assert (await end_of(gateway, "garbage"))["reason"] == "deleted"


async def test_frames_of_a_megabyte_neither_grow_nor_end_the_gateway(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    small = encoded_pattern()
    huge = b"\x00\x00\x00\x01\x65" + b"\x88" * (1 << 20)
    async with ForgedPublisher(http, gateway.live("huge/whip"), units=[small[0], huge, huge]) as publisher:
        await publisher.connected()

        async def seen() -> bool:
            status = await gateway.status("huge")
            return bool(status["ended"]) or (status["ingest"] or {}).get("bitrate_bps", 0) > 1_000_000

        await eventually(seen, what="the large frames")
        assert (await gateway.get("debug/state"))["held_bytes"] < 64 << 20
    await end_of(gateway, "huge")


# what stands behind the gateway


async def refuses_to_start(folder: Path, *flags: str) -> tuple[int, str]:
    """The exit status and what was said."""
    async with gateway_process(folder, *flags, devnet=False, wait_ready=False) as gateway:
        status = await asyncio.wait_for(gateway.process.wait(), 40)
        return status, gateway.log.read_text().strip()


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(text="hello"),
        lambda: web.json_response({"address": "0x12", "signature": 7}),
        lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
        lambda: web.json_response({"address": "0x" + "1" * 40, "signature": "0x" + "f" * 20_000_000}),
    ],
    ids=["text", "no signature", "redirect", "20 MB"],
)
async def test_a_signer_that_answers_garbage_is_one_sentence(
    answer: Callable[[], web.Response], tmp_path: Path
) -> None:
    async def handle(_: web.Request) -> web.Response:
        return answer()

    app = web.Application()
    app.router.add_post("/sign-orchestrator-info", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    signer = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        status, said = await refuses_to_start(
            tmp_path, "-remoteSignerUrl", signer, "-orchAddr", "127.0.0.1:1", "-maxPricePerUnit", "1ETH"
        )
    finally:
        await runner.cleanup()
    assert status == 1
    assert said.splitlines()[-1].startswith(f"livepeer-gateway: -remoteSignerUrl {signer}:")
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (("-htpAddr", "x"), 2, "did you mean -httpAddr?"),
        (("-orchAddr", "x:1", "-maxStreams", "many"), 2, "-maxStreams 'many' is refused"),
        (("-orchAddr", "x:1", "-httpAddr", "127.0.0.1:99999"), 2, "-httpAddr '127.0.0.1:99999' is refused"),
        (("-orchAddr", "x:1", "-ledger", "/dev/full/ledger"), 1, "/dev/full/ledger"),
    ],
)
async def test_what_cannot_start_says_so_in_one_sentence(
    flags: tuple[str, ...], status: int, words: str, tmp_path: Path
) -> None:
    ended, said = await refuses_to_start(tmp_path, *flags)
    assert ended == status
    assert words in said.splitlines()[-1]
    assert "Traceback" not in said


async def test_a_port_that_is_taken_is_one_sentence(daemon: GatewayProcess, tmp_path: Path) -> None:
    taken = daemon.url.removeprefix("http://").rstrip("/")
    status, said = await refuses_to_start(tmp_path, "-orchAddr", "127.0.0.1:1", "-httpAddr", taken)
    assert status == 1
    assert said.splitlines()[-1].startswith(f"livepeer-gateway: -httpAddr {taken} cannot be listened on")


REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
BEHAVIOURS: dict[str, tuple[bytes, bool]] = {
    "nothing": (b"", False),
    "garbage": (b"\xde\xad\xbe\xef" * 64, False),
    "redirect": (REDIRECT, False),
    "endless": (b"\x00" * 65_536, True),
}


@pytest_asyncio.fixture(loop_scope="module", params=["TLS", "plain"])
async def bad_orchestrators(request: pytest.FixtureRequest) -> AsyncIterator[list[str]]:
    """Addresses of servers that are none of the kind: each behaves as its name says until it is left."""

    def behave(sent: bytes, again: bool) -> Any:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                writer.write(sent)
                await writer.drain()
                while again or await reader.read(65_536):
                    if again:
                        writer.write(sent)
                        await writer.drain()
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


async def test_orchestrators_that_are_none_are_passed_over(
    bad_orchestrators: list[str], http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    flags = ("-orchAddr", ",".join([*bad_orchestrators, "127.0.0.1:1"]))
    async with gateway_process(tmp_path, *flags, devnet=False, wait_ready=False) as gateway:
        url = await eventually(
            lambda: re.search(r"http://127\.0\.0\.1:\d+/", gateway.log.read_text()), what="the listener"
        )
        gateway.url = url[0]

        async def judged() -> bool:
            listed = (await gateway.get("orchestrators"))["orchestrators"]
            return all(one["verdict"] in ("unreachable", "bad_answer") for one in listed)

        await eventually(judged, deadline=30, what="a verdict on each")
        async with http.post(gateway.live("cam/whip"), data=PUBLISH, headers=SDP) as response:
            problem = await response.json(content_type=None)
            assert (response.status, problem["code"]) == (503, "no_orchestrator")
            assert len(problem["candidates"]) == len(BEHAVIOURS) + 1
        async with http.get(gateway.url + "readyz") as response:
            assert response.status == 503
        state = await gateway.get("debug/state")
        assert state["streams"] == state["peers"] == 0
        assert "Traceback" not in gateway.log.read_text()
