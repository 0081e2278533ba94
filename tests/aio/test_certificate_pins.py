"""Servers that change their certificate, over real TLS: pinned while a session lasts."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from gateway.aio.certificate_pins import REMEMBERED, CertificateChanged, CertificatePins
from gateway.aio.client_tls import client_context
from gateway.aio.http_client import ClientSessions
from gateway.aio.inside import Reach
from gateway.devnet.orchestrator.tls import self_signed
from gateway.orchestrator.errors import Unreachable
from gateway.runner.client import RunnerClient
from harness.serving import serving

HERE = Reach("127.0.0.1")


class Certificates:
    """Two of one host, self-signed, the first of which the system trusts where a test says so."""

    def __init__(self, folder: Path) -> None:
        self.files = [folder / "first.pem", folder / "second.pem"]
        for file in self.files:
            file.write_bytes(self_signed("127.0.0.1"))

    def server(self, number: int) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.files[number])
        return context


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def trusted(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The system trusts the first one."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.files[0]))
    client_context.cache_clear()
    yield
    client_context.cache_clear()


@asynccontextmanager
async def showing(context: ssl.SSLContext | None, port: int = 0) -> AsyncIterator[int]:
    """A server that shows this certificate, and closes each connection after its answer."""

    async def handle(request: web.Request) -> web.Response:
        response = web.Response(text="here")
        response.force_close()
        return response

    async with serving(web.route("*", "/{path:.*}", handle), port=port, tls=context) as url:
        yield URL(url).port or 0


@asynccontextmanager
async def client(pins: CertificatePins) -> AsyncIterator[aiohttp.ClientSession]:
    sessions = ClientSessions(client_context(verify=False), pins)
    try:
        yield sessions.get(HERE)
    finally:
        await sessions.close()


async def answers(http: aiohttp.ClientSession, port: int) -> bool:
    async with http.get(f"https://127.0.0.1:{port}/") as response:
        return await response.text() == "here"


@pytest.mark.asyncio
async def test_a_certificate_that_does_not_verify_is_pinned_while_a_session_lasts(
    certificates: Certificates,
) -> None:
    pins = CertificatePins()
    async with client(pins) as http:
        session, other = pins.session(), pins.session()
        async with showing(certificates.server(0)) as port:
            assert await answers(http, port), "before any session it is taken"
            session.hold(f"https://127.0.0.1:{port}/session")
            other.hold(f"https://127.0.0.1:{port}/session", f"https://127.0.0.1:{port}/app")
            assert await answers(http, port)
        async with showing(certificates.server(1), port):
            with pytest.raises(aiohttp.ClientConnectorCertificateError) as refused:
                await answers(http, port)
            assert isinstance(refused.value.__cause__, CertificateChanged)
            session.release()
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await answers(http, port)
            other.release()
            assert await answers(http, port), "nobody goes on with the former one"


@pytest.mark.asyncio
async def test_the_first_certificate_that_a_session_meets_is_its_own(certificates: Certificates) -> None:
    pins = CertificatePins()
    async with client(pins) as http:
        async with showing(certificates.server(0)) as port:
            pins.session().hold(f"https://127.0.0.1:{port}/")
            assert await answers(http, port)
        async with showing(certificates.server(1), port):
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await answers(http, port)


@pytest.mark.asyncio
@pytest.mark.usefixtures("trusted")
async def test_what_verified_once_has_to_verify_from_then_on(certificates: Certificates) -> None:
    pins = CertificatePins()
    async with client(pins) as http:
        async with showing(certificates.server(1)) as port:
            assert await answers(http, port)
        async with showing(certificates.server(0), port):
            assert await answers(http, port), "without a session it may become better"
        async with showing(certificates.server(1), port):
            with pytest.raises(aiohttp.ClientConnectorCertificateError) as refused:
                await answers(http, port)
            assert isinstance(refused.value.__cause__, ssl.SSLCertVerificationError)


@pytest.mark.asyncio
async def test_an_error_names_what_changed_and_no_url(certificates: Certificates) -> None:
    runners = RunnerClient(sender="")
    pins = runners.pins()
    try:
        async with showing(certificates.server(0)) as port:
            url = f"https://127.0.0.1:{port}/secret"
            pins.hold(url)
            assert await runners.stop(url, HERE)
        async with showing(certificates.server(1), port):
            with pytest.raises(Unreachable, match="shows another certificate") as why:
                await runners.call_app(url, HERE, {})
            assert "secret" not in str(why.value)
    finally:
        await runners.close()


@pytest.mark.asyncio
async def test_with_verification_nothing_else_is_taken(
    certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    strict, lax = RunnerClient(sender="", verify_tls=True), RunnerClient(sender="")
    try:
        async with showing(certificates.server(0)) as port:
            with pytest.raises(Unreachable):
                await strict.call_app(f"https://127.0.0.1:{port}/", HERE, {})
        async with showing(None) as port:
            with pytest.raises(Unreachable, match="without TLS"):
                await strict.call_app(f"http://127.0.0.1:{port}/", HERE, {})
            with pytest.raises(Unreachable, match="without TLS"):
                strict.check_tls(f"http://127.0.0.1:{port}/in")
        assert capsys.readouterr().out == ""
        for _ in range(2):
            lax.check_tls("http://127.0.0.1:1/a", "http://localhost/b", "http://runner.example/secret")
        (line,) = capsys.readouterr().out.splitlines()
        assert "runner.example" in line and "secret" not in line
    finally:
        await strict.close()
        await lax.close()


def test_what_is_known_of_servers_is_bounded() -> None:
    pins = CertificatePins()
    for number in range(REMEMBERED + 5):
        pins.verified((f"{number}.example", 443))
    assert not pins.must_verify(("4.example", 443))
    assert pins.must_verify(("5.example", 443))
