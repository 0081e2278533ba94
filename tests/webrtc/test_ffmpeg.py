from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import av
import pytest
import structlog
from aiohttp import web
from aiortc.rtcdtlstransport import generate_certificate
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.media.frames import AccessUnit, Frame
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.errors import ConnectFailed
from gateway.webrtc.publisher import Publisher
from harness.serving import serving
from harness.waiting import DEADLINE

PROGRAM = Path(__file__).with_name("ffmpeg_publisher.py")


@asynccontextmanager
async def ffmpeg(frames: list[Frame], *arguments: str) -> AsyncIterator[Publisher]:
    """FFmpeg publishing to a gateway's peer, whose answer has gone out."""
    assert "whip" in av.formats_available, "this PyAV was built without FFmpeg's whip muxer: lock one with it"
    arrived: asyncio.Future[Publisher] = asyncio.get_running_loop().create_future()

    async def whip(request: web.Request) -> web.Response:
        publisher = await Publisher.answer_offer(
            await request.text(), config=WebRtcConfig(), sink=frames.append, log=structlog.get_logger()
        )
        arrived.set_result(publisher)
        headers = {"Location": "/session"}
        return web.Response(
            status=201, text=publisher.answer, content_type="application/sdp", headers=headers
        )

    async def gone(_: web.Request) -> web.Response:
        return web.Response()

    async with serving(web.post("/whip", whip), web.delete("/session", gone)) as url:
        command = [sys.executable, str(PROGRAM), f"{url}/whip", *arguments]
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        try:
            publisher = await asyncio.wait_for(arrived, DEADLINE)
            try:
                yield publisher
            finally:
                await publisher.close()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def certified(folder: Path, curve: ec.EllipticCurve) -> tuple[str, str]:
    """The paths of a certificate and its key, on this curve."""
    key = ec.generate_private_key(curve)
    certificate: x509.Certificate = generate_certificate(key)
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(cert_file), str(key_file)


@pytest.mark.asyncio
async def test_ffmpegs_whip_muxer_publishes(tmp_path: Path) -> None:
    frames: list[Frame] = []
    async with ffmpeg(frames, *certified(tmp_path, ec.SECP256R1())) as publisher:
        await publisher.connect()
        assert "close_notify" in await asyncio.wait_for(publisher.wait_closed(), DEADLINE)
        assert publisher.stats().damaged_frames == 0
    units = [frame for frame in frames if isinstance(frame, AccessUnit)]
    assert len(units) == 60
    assert [at for at, unit in enumerate(units) if unit.key] == [0, 30]


@pytest.mark.asyncio
async def test_a_certificate_as_ffmpeg_with_gnutls_makes_it_is_refused_with_its_alert(tmp_path: Path) -> None:
    # A P-224 key, which OpenSSL 4 does not take.
    async with ffmpeg([], *certified(tmp_path, ec.SECP224R1())) as publisher:
        with pytest.raises(ConnectFailed, match="TLS alert illegal_parameter sent"):
            await publisher.connect()
