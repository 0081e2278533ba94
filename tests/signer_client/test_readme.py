"""The package's README: its code runs, its tables are complete, and it needs no gateway."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import Any

import pytest

import signer_client
from signer_client import LivePayment, SignerClient, SignerStatusError
from tests.docs.documents import ROOT, Document
from tests.signer_client.servers import PAYMENT, answers, fails, signer

README = Document("signer_client/README.md")
IDENTITY = {"address": "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23", "signature": "0x" + "ab" * 65}


@pytest.mark.asyncio
async def test_its_code_pays_twice_and_then_finds_nothing_due(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in README.blocks:
        if block.language == "python":
            exec(block.text, names)
    async with signer(answers(IDENTITY), answers(PAYMENT), answers(PAYMENT), fails(482)) as (it, server):
        first: LivePayment = await names["first_payment"](it.url, b"info")
        second: LivePayment = await names["next_payment"](it, b"info", first, "m")
        assert await names["next_payment"](it, b"info", second, "m") is None
    assert capsys.readouterr().out == f"paying as {IDENTITY['address']}\n"
    assert ["state" in body for body in server.bodies[1:]] == [False, True, True]


def test_every_exception_is_in_its_table() -> None:
    explained = {cells[0].strip("`") for cells in README.table("exception")}
    errors = {name for name in signer_client.__all__ if name.endswith(("Unreachable", "BadAnswer"))}
    errors |= {error.__name__ for error in SignerStatusError.__subclasses__()}
    assert explained == errors


def test_every_option_is_in_its_table_with_its_default() -> None:
    parameters = inspect.signature(SignerClient).parameters
    rows = {cells[0].strip("`"): cells[1] for cells in README.table("argument of `SignerClient`")}
    assert rows.keys() == parameters.keys() - {"url"}
    assert float(rows["timeout"]) == parameters["timeout"].default
    assert float(rows["retries"]) == parameters["retries"].default
    assert float(rows["backoff"]) == parameters["backoff"].default


def test_the_package_needs_nothing_but_aiohttp() -> None:
    for source in (ROOT / "signer_client").glob("*.py"):
        for module in re.findall(r"^(?:from|import) ([a-z_0-9]+)", source.read_text(), re.MULTILINE):
            assert module in {*sys.stdlib_module_names, "aiohttp", "signer_client"}, (source.name, module)
    program = "import sys, signer_client; sys.exit('gateway' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)
