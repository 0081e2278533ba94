"""Usage over HTTP."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.http.server import Server, application
from gateway.http.usage import UsageRoutes
from gateway.payments.ledger import Ledger
from harness.payment_models import PRICE
from tests.payments.ledgers import pay, payment, record


@pytest.mark.asyncio
async def test_the_operator_sees_what_to_charge(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    session = await ledger.open_session(replace(record("one"), publisher="customer ann"))
    await pay(ledger, session, 1, payment(1, 1, 60), "delivered", "credited")
    routes = UsageRoutes(ledger.reader, Fraction(3, 2)).routes()
    server = Server(application([routes]), ("127.0.0.1", 0), "httpAddr")
    url = await server.start()

    async def get(**query: str) -> tuple[int, dict[str, Any]]:
        async with aiohttp.ClientSession() as http, http.get(f"{url}usage", params=query) as response:
            return response.status, await response.json(content_type=None)

    try:
        status, answer = await get(by="customer", every="all")
        assert status == 200
        (row,) = answer["usage"]
        assert (row["key"], row["spent_wei"], row["charged_wei"]) == ("ann", str(60 * PRICE), str(90 * PRICE))
        assert (await get(to="2020-01-01"))[1]["usage"] == []
        for query in ({"by": "nobody"}, {"every": "hour"}, {"from": "yesterday"}):
            status, problem = await get(**query)
            assert (status, problem["code"]) == (400, "bad_parameter")
    finally:
        await server.stop()
        await ledger.close()
