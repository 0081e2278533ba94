"""The devnet as processes, without a gateway."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from harness.gateway import BIN, NO_AUTHORITIES, READY_DEADLINE, one_orchestrator
from harness.processes import line, program

EQUAL_PRICES = ("-prices", "1000000000000000")
"""All orchestrators of a devnet ask for the same."""


@asynccontextmanager
async def devnet_process(folder: Path, *flags: str) -> AsyncIterator[dict[str, Any]]:
    """`livepeer-devnet`, with one orchestrator unless the flags say how many: its description.

    Stopped at the end, whatever happened.
    """
    flags = (*one_orchestrator(flags), *flags)
    with (folder / "devnet.log").open("wb") as stderr:
        environment = {**os.environ, **NO_AUTHORITIES}
        options = {"stdout": asyncio.subprocess.PIPE, "stderr": stderr, "env": environment}
        async with program(BIN / "livepeer-devnet", *flags, **options) as process:
            yield json.loads(await line(process, deadline=READY_DEADLINE))


def network_flags(devnet: dict[str, Any]) -> list[str]:
    """The flags that connect a gateway to that network."""
    addresses = ",".join(orchestrator["addr"] for orchestrator in devnet["orchestrators"])
    return ["-remoteSignerUrl", devnet["signer"], "-orchAddr", addresses, "-maxPricePerUnit", "0.001ETH"]
