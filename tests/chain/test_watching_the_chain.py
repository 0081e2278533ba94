"""The operators' page about the chain names what there is."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import aiohttp
import pytest

from gateway.chain.networks import ChainNetwork
from gateway.chain.service import ChainService
from gateway.chain.settings import ChainSettings
from gateway.cli.ledger import LUCK_COLUMNS
from gateway.devnet.settings import DEVNET_FLAGS
from gateway.payments.ledger import Ledger
from gateway.settings import GATEWAY_FLAGS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "watching-the-chain.md").read_text()


@pytest.mark.asyncio
async def test_its_example_has_the_fields_that_operators_get(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    network = ChainNetwork("0x" + "c0" * 20)
    settings = ChainSettings(("http://127.0.0.1:9",), network, Fraction(24), 1.0)
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    sender = "0x" + "01" * 20
    service = ChainService(http, settings, sender=sender, folder=tmp_path, book=ledger.redemptions)
    shown = json.loads(PAGE.partition("/chain\n")[2].partition("\n\n|")[0])
    assert shown.keys() == service.json().keys()
    assert set(re.findall(r"`(\w+)`", PAGE.partition("| field |")[2].partition("\n\n")[0])) >= shown.keys()
    await ledger.close()


def test_its_columns_and_flags_are_real() -> None:
    table = PAGE.partition("| column |")[2].partition("\n\n")[0]
    explained = re.findall(r"`(\w+)`", table)
    assert set(LUCK_COLUMNS) - {"day", "orchestrator"} <= set(explained)
    assert set(re.findall(r"^    (day .*)$", PAGE, re.MULTILINE)[0].split()) == set(LUCK_COLUMNS)
    known = {flag.name for flag in (*GATEWAY_FLAGS, *DEVNET_FLAGS)}
    assert set(re.findall(r"(?:^|[ `])-(\w{4,})", PAGE, re.MULTILINE)) <= known
