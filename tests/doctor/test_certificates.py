"""Whose certificates verify."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from gateway.devnet.orchestrator.tls import self_signed
from gateway.doctor.certificates import verified
from gateway.http.server import Server
from gateway.http.tls import Certificate


@pytest.mark.asyncio
async def test_a_self_signed_one_does_not_and_a_server_that_is_away_has_none(tmp_path: Path) -> None:
    path = tmp_path / "both.pem"
    path.write_bytes(self_signed("127.0.0.1"))
    server = Server(web.Application(), ("127.0.0.1", 0), "httpAddr", Certificate(path, path).context())
    url = await server.start()
    try:
        assert await verified([url, "https://127.0.0.1:9/", "http://127.0.0.1:9/"]) == {url: False}
    finally:
        await server.stop()
