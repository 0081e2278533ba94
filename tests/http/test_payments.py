"""What a stream paid, page by page, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from gateway.http.payments import PaymentRoutes
from gateway.http.server import Server, application
from gateway.payments.ledger import Ledger
from gateway.stream.registry import StreamRegistry
from tests.payments.ledgers import pay, payment, record

pytestmark = pytest.mark.asyncio

PATH = "live/video-to-video"


class NoStreams:
    """A registry in which nothing is live."""

    def find_with_ended(self, name: str) -> None:
        return None


@asynccontextmanager
async def served(ledger: Ledger) -> AsyncIterator[str]:
    routes = PaymentRoutes(cast(StreamRegistry, NoStreams()), ledger.reader).routes()
    server = Server(application([routes]), ("127.0.0.1", 0), "httpAddr")
    url = await server.start()
    yield url
    await server.stop()


async def get(url: str, stream: str, **query: str) -> tuple[int, dict[str, Any]]:
    path = f"{url}{PATH}/{stream}/payments"
    async with aiohttp.ClientSession() as http, http.get(path, params=query) as response:
        return response.status, await response.json(content_type=None)


async def test_a_stream_is_read_page_by_page_to_its_beginning(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    for start in (1, 100):
        session = await ledger.open_session(record("one"))
        for number in range(1, 4):
            await pay(ledger, session, number, payment(start + number, 1, 1), "delivered", "credited")
    async with served(ledger) as url:
        status, answer = await get(url, "one", limit="4")
        assert status == 200
        first, second = answer["sessions"]
        assert [one["number"] for one in first["payments"]] == [3]
        assert [one["number"] for one in second["payments"]] == [1, 2, 3]
        assert (first["payments_left_out"], first["payments"][0]["outcome"]) == (2, "credited")
        assert [step["step"] for step in first["payments"][0]["steps"]] == [
            "intended", "signed", "delivered", "credited",
        ]  # fmt: skip
        status, answer = await get(url, "one", limit="4", before=answer["next"])
        assert [[one["number"] for one in session["payments"]] for session in answer["sessions"]] == [[1, 2]]
        assert answer["next"] is None
        status, answer = await get(url, "one")
        assert (len(answer["sessions"]), answer["next"]) == (2, None)
        assert (await get(url, "other"))[0] == 404
        assert (await get(url, "other", before="9999999999-9999999999"))[0] == 200
    await ledger.close()


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "-1"},
        {"limit": "x"},
        {"limit": "²"},
        {"before": "1"},
        {"before": "1-2-3"},
        {"before": "-1-1"},
        {"before": "9" * 40 + "-1"},
    ],
)
async def test_a_page_that_cannot_be_is_refused(query: dict[str, str], tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    async with served(ledger) as url:
        status, problem = await get(url, "one", **query)
    await ledger.close()
    assert (status, problem["code"]) == (400, "bad_parameter")
