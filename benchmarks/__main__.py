"""`scripts/bench [name ..]`: run the named benchmarks, or all of them."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from benchmarks import browser, cluster, counting, hostile, ledger, loop, media, payments, relays
from gateway.telemetry import log

BENCHMARKS: dict[str, Callable[[Path], AsyncIterator[dict[str, Any]]]] = {
    "browser": browser.measure,
    "cluster": cluster.measure,
    "counting": counting.measure,
    "hostile": hostile.measure,
    "ledger": ledger.measure,
    "loop": loop.measure,
    "media": media.measure,
    "payments": payments.measure,
    "relays": relays.measure,
}


async def run(names: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name in names:
            async for row in BENCHMARKS[name](Path(folder)):
                print(json.dumps({"bench": name, **row}), flush=True)


def main() -> int:
    names = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark is called {unknown[0]!r}: there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    log.configure(0, "text")  # standard output is for figures
    asyncio.run(run(names))
    return 0


if __name__ == "__main__":
    sys.exit(main())
