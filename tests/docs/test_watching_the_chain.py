"""The operators' page about the chain shows the fields and columns that there are."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import aiohttp
import pytest

from gateway.chain.networks import ChainNetwork
from gateway.chain.service import ChainService
from gateway.chain.settings import ChainSettings, WatchSettings
from gateway.cli.ledger import LUCK_COLUMNS
from gateway.payments.ledger import Ledger
from tests.docs.documents import Document

PAGE = Document("docs/watching-the-chain.md")


def explained(title: str) -> set[str]:
    """The fields or columns in the first cells of the table of that title."""
    return {name for row in PAGE.table(title) for name in re.findall(r"`(\w+)`", row[0])}


def output(command: str) -> str:
    """What the page shows as the answer to the command."""
    block = next(block for block in PAGE.blocks if block.commands.startswith(command))
    return block.text.partition("\n")[2]


@pytest.mark.asyncio
async def test_its_example_has_the_fields_that_operators_get(tmp_path: Path) -> None:
    network = ChainNetwork("0x" + "c0" * 20)
    settings = ChainSettings(("http://127.0.0.1:9",), network, WatchSettings(Fraction(24), 1.0))
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    sender = "0x" + "01" * 20
    async with aiohttp.ClientSession() as http:
        service = ChainService(http, settings, sender=sender, folder=tmp_path, book=ledger.redemptions)
        shown = json.loads(output("curl"))
        assert shown.keys() == service.json().keys()
        assert explained("field") >= shown.keys()
    await ledger.close()


def test_its_columns_are_those_of_the_command() -> None:
    assert set(LUCK_COLUMNS) - {"day", "orchestrator"} <= explained("column")
    head, _ = output(".venv/bin/livepeer-gateway ledger luck").splitlines()
    assert set(head.split()) == set(LUCK_COLUMNS)
