"""Which routes stand on which address."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import aiohttp
import pytest

from gateway.http.all_nodes import AllNodes
from gateway.http.app import HttpParts, HttpServers
from gateway.payments.ledger import Ledger
from gateway.readiness import Readiness
from gateway.reason import EndReason
from gateway.settings import read_flags, settings_from
from gateway.stream.admission import Admission
from gateway.telemetry.metrics import Metrics
from tests.stream.jobs import FakeSource, only
from tests.stream.live import registry_on

ORIGIN = {"Origin": "https://page.example"}
ALLOW = "Access-Control-Allow-Origin"


@pytest.mark.asyncio
async def test_strangers_and_other_pages_get_no_operator_routes(tmp_path: Path) -> None:
    argv = (
        *("-orchAddr", "x:1", "-dataDir", str(tmp_path), "-httpAddr", "127.0.0.1:0"),
        *("-externalUrl", "https://video.example", "-nodeAddr", "127.0.0.1:0"),
    )
    settings = settings_from(read_flags(argv, {}))
    ledger = await Ledger.open(settings.ledger)
    registry, metrics = registry_on(only(FakeSource())), Metrics()
    orchestrators: partial[dict[str, object]] = partial(dict, orchestrators=[])
    nodes = AllNodes(registry, metrics, orchestrators, None)
    readiness = Readiness(ledger, None, Admission(), list)
    async with aiohttp.ClientSession() as http:
        parts = HttpParts(registry, metrics, nodes, readiness, ledger.reader, http, orchestrators)
        servers = HttpServers(settings.http, settings.stream, parts)
        assert servers.own is not None
        public, own = await servers.public.start(), await servers.own.start()
        try:
            for path in ("metrics", "drain", "streams", "operator", "events", "debug/state"):
                async with http.get(public + path) as answer:
                    assert (path, answer.status) == (path, 404)
            for path in ("usage", "streams"):
                async with http.get(own + path, headers=ORIGIN) as answer:
                    assert (path, answer.status, ALLOW in answer.headers) == (path, 200, False)
            async with http.get(own + "readyz", headers=ORIGIN) as answer:
                assert answer.headers[ALLOW] == "*"
        finally:
            await servers.public.stop()
            await servers.own.stop()
            await registry.close(EndReason.DRAINED, "the test is over")
            await ledger.close()
