"""The small network as processes of their own, without a gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from harness.gateway import BIN


@asynccontextmanager
async def devnet_process(folder: Path, *flags: str) -> AsyncIterator[dict[str, Any]]:
    """`livepeer-devnet` with the given flags: its description. Stopped at the end, whatever happened."""
    with (folder / "devnet.log").open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            BIN / "livepeer-devnet", *flags, stdout=asyncio.subprocess.PIPE, stderr=stderr
        )
    assert process.stdout is not None
    try:
        yield json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def network_flags(devnet: dict[str, Any]) -> list[str]:
    """What points a gateway at that network."""
    addresses = ",".join(orchestrator["addr"] for orchestrator in devnet["orchestrators"])
    return ["-remoteSignerUrl", devnet["signer"], "-orchAddr", addresses, "-maxPricePerUnit", "0.001ETH"]
