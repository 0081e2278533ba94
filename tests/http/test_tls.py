"""https with a certificate that is renewed while the gateway listens."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.devnet.orchestrator.tls import self_signed
from gateway.http.server import Server, application
from gateway.http.tls import Certificate

Seen = Callable[[], Awaitable[bytes]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "both.pem"
    path.write_bytes(self_signed("127.0.0.1"))
    return path


@pytest_asyncio.fixture
async def seen(path: Path, unused_tcp_port: int) -> AsyncIterator[Seen]:
    """The certificate that a new connection is shown."""
    address = ("127.0.0.1", unused_tcp_port)
    server = Server(application([]), address, "httpAddr", Certificate(path, path).context())
    await server.start()

    async def certificate() -> bytes:
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection(*address, ssl=trust)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return bytes(shown)

    yield certificate
    await server.stop()


def certificate_in(path: Path) -> bytes:
    pem = path.read_text().partition("-----BEGIN CERTIFICATE-----")
    return ssl.PEM_cert_to_DER_cert("".join(pem[1:]))


@pytest.mark.asyncio
async def test_a_renewed_certificate_is_shown_from_the_next_connection_on(path: Path, seen: Seen) -> None:
    first = certificate_in(path)
    assert await seen() == first
    path.write_bytes(self_signed("127.0.0.1"))
    assert await seen() == certificate_in(path) != first


@pytest.mark.asyncio
async def test_the_old_certificate_stays_while_the_new_one_is_of_no_use(path: Path, seen: Seen) -> None:
    first = certificate_in(path)
    for broken in ("", "half a file"):
        path.write_text(broken)
        assert await seen() == first
    path.unlink()
    assert await seen() == first
    path.write_bytes(self_signed("127.0.0.1"))
    assert await seen() == certificate_in(path)
