"""The `doctor` command as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.gateway import BIN, gateway_process
from harness.waiting import within

DEADLINE = 60.0


async def doctor(folder: Path, *flags: str) -> tuple[int, str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LP_")}
    process = await asyncio.create_subprocess_exec(
        BIN / "livepeer-gateway",
        "doctor",
        *flags,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**kept, "XDG_DATA_HOME": str(folder)},
    )
    out, err = await within(process.communicate(), deadline=DEADLINE, what="the doctor")
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def found(text: str, part: str) -> list[dict[str, Any]]:
    return [finding for finding in json.loads(text)["findings"] if finding["part"] == part]


@pytest.mark.asyncio
async def test_beside_a_gateway_that_runs(tmp_path: Path) -> None:
    """It looks at the network and the ledger of the running one, and costs nothing."""
    async with gateway_process(tmp_path, "-runners", "1", "-dataDir", str(tmp_path / "data")) as gateway:
        devnet = await gateway.devnet()
        signed = await gateway.signer_audit()
        flags = (
            *("-remoteSignerUrl", devnet["signer"], "-maxPricePerUnit", "0.001ETH"),
            *("-orchAddr", f"{devnet['orchestrators'][0]['addr']},{devnet['runners'][0]['url']}"),
            *("-app", f"comfystream={devnet['runners'][0]['app']}", "-dataDir", str(tmp_path / "data")),
            *("-httpAddr", gateway.url.split("/")[2]),
        )
        status, out, err = await doctor(tmp_path, *flags, "--json")
        assert (status, err) == (0, ""), out
        assert json.loads(out)["would_serve"] is True
        (orchestrator,) = [one for one in found(out, "orchestrator") if one["level"] == "ok"]
        assert orchestrator["figures"]["price_wei_per_second"] == str(10**15)
        assert orchestrator["figures"]["percent_of_ceiling"] == "100"
        (runner,) = found(out, "runner")
        assert runner["level"] == "ok"
        assert found(out, "ledger")[0]["detail"].endswith("can be read")
        assert found(out, "listens")[0]["level"] == "warning"  # the running one has it
        assert found(out, "signer")[0]["figures"]["address"].startswith("0x")
        assert await gateway.signer_audit() == signed
        status, text, _ = await doctor(tmp_path, *flags)
        assert (status, text.splitlines()[-1]) == (0, "a publisher would be served")


@pytest.mark.asyncio
async def test_what_keeps_publishers_out_is_named(tmp_path: Path) -> None:
    dead = ("-remoteSignerUrl", "http://127.0.0.1:9", "-maxPricePerUnit", "0.001ETH")
    status, out, _ = await doctor(tmp_path, *dead, "-orchAddr", "127.0.0.1:9")
    assert status == 1
    assert "fault    signer: -remoteSignerUrl http://127.0.0.1:9: the signer did not give its address" in out
    status, out, _ = await doctor(tmp_path, "-orchAddr", "127.0.0.1:9", "-wait", "0.5s", "-json")
    assert status == 1
    (nobody,) = found(out, "streams")
    assert "127.0.0.1:9: unreachable" in nobody["detail"]
    status, _, err = await doctor(tmp_path, "-orchadr", "127.0.0.1:9")
    assert (status, err) == (2, "livepeer-gateway doctor: -orchadr is not a flag of livepeer-gateway: "
                                "did you mean -orchAddr?\n")  # fmt: skip
