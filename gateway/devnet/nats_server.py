"""A nats-server with JetStream for the nodes of a devnet, from Debian's package."""

from __future__ import annotations

import asyncio
import shutil
import socket
from pathlib import Path

from gateway.devnet.child_process import Child, ChildTiming, Ready

DEBIANS = "/usr/sbin/nats-server"
"""Where Debian puts it: the path of a plain user does not lead there."""
LOOK_INTERVAL = 0.02
CONNECT_TIMEOUT = 1.0


def nats_server(folder: Path, *, restart: bool) -> Child:
    """The server, which keeps its data in `folder`; its ready line has `url`. Raises OSError.

    A restarted one has the same port and data.
    """
    binary = shutil.which("nats-server") or shutil.which(DEBIANS)
    if binary is None:
        raise OSError("nats-server is not installed: run scripts/prepare cluster, or install it")
    port = _free_port()

    def command(_: Ready | None) -> list[str]:
        return [
            *("setpriv", "--pdeathsig", "KILL", binary),
            *("--addr", "127.0.0.1", "--port", str(port)),
            *("--jetstream", "--store_dir", str(folder), "--log", str(folder / "server.log")),
        ]

    async def listens(process: asyncio.subprocess.Process) -> Ready | None:
        while process.returncode is None:
            if await _greets(port):
                return {"url": f"nats://127.0.0.1:{port}"}
            await asyncio.sleep(LOOK_INTERVAL)
        return None

    return Child("nats-server", command, restart=restart, timing=ChildTiming(), when_ready=listens)


async def _greets(port: int) -> bool:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                return await reader.readexactly(4) == b"INFO"
            finally:
                writer.close()
    except (OSError, EOFError, TimeoutError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
