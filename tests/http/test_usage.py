"""Usage over HTTP."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.http.access import Access
from gateway.http.route import Token
from gateway.http.server import Server, application
from gateway.http.tokens import TokenFile
from gateway.http.usage import UsageRoutes
from gateway.payments.customer import Customer
from gateway.payments.ledger import Ledger, SessionRecord
from harness.payment_models import PRICE
from tests.payments.ledgers import pay, payment, record


def of_customer(name: str, publisher: str, markup: Fraction | None = None) -> SessionRecord:
    whose = record(f"of-{name}")
    return replace(whose, job=replace(whose.job, customer=Customer(name, {}, markup)), publisher=publisher)


@pytest.mark.asyncio
async def test_the_operator_sees_what_to_charge(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    session = await ledger.open_session(of_customer("ann", "token x"))
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


@pytest.mark.asyncio
@pytest.mark.parametrize("for_operator", [False, True])
async def test_a_token_shows_its_customer_its_own_alone_and_what_it_is_charged(
    tmp_path: Path, for_operator: bool
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("ann-1 customer=ann\nann-2 customer=ann\nbob\n")
    bob = TokenFile(tokens).find("bob")
    assert bob is not None
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    for number, whose in enumerate(
        [
            of_customer("ann", "token of ann-1", Fraction(2)),
            of_customer("", bob.publisher),
            of_customer("carl", "customer carl"),
        ]
    ):
        session = await ledger.open_session(whose)
        await pay(ledger, session, 1, payment(number, 1, 60), "delivered", "credited")
    access = Access({Token.PUBLISH: TokenFile(tokens)}, str)
    routes = UsageRoutes(ledger.reader, Fraction(3, 2), holder=access.holder, for_operator=for_operator)
    server = Server(application([routes.routes()]), ("127.0.0.1", 0), "httpAddr")
    url = await server.start()

    async def get(token: str, query: str = "?every=all") -> Any:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{url}usage{query}", headers=headers) as answer,
        ):
            body = await answer.json(content_type=None)
            return body["usage"] if answer.status == 200 else (answer.status, body["code"])

    try:
        for token, key, charged in (
            ("ann-1", "ann", 120 * PRICE),
            ("ann-2", "ann", 120 * PRICE),
            ("bob", "", 90 * PRICE),
        ):
            (row,) = await get(token)
            assert (row["key"], row["charged_wei"]) == (key, str(charged))
            assert "spent_wei" not in row
        assert [row["key"] for row in await get("bob", "?by=stream&every=all")] == ["of-"]
        for by in ("orchestrator", "publisher", "token"):
            assert await get("ann-1", f"?by={by}") == (400, "bad_parameter")
        assert await get("nobody") == (401, "unauthorized")
        everything = await get("")
        assert len(everything) == 3 if for_operator else everything == (401, "unauthorized")
    finally:
        await server.stop()
        await ledger.close()
