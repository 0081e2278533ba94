"""Many gateways on one devnet, as nodes of one cluster: what `-devnet -gateways 3` runs.

This process starts the network, a NATS and a PostgreSQL of its own, and then the nodes, which are gateways
with the same flags on one port. It serves nothing itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import structlog

from gateway.aio.tasks import cancel, spawn
from gateway.devnet.child_process import Child, ChildTiming, Ready
from gateway.devnet.description import VARIABLE, write_description
from gateway.devnet.devnet import Devnet
from gateway.devnet.nats_server import nats_server
from gateway.devnet.postgresql import make_postgresql
from gateway.devnet.reserved_port import reserved_port
from gateway.devnet.temporary_folder import temporary_folder
from gateway.flags import VARIABLE_PREFIX, FlagError, Parsed
from gateway.private_files import make_folder
from gateway.settings import PROGRAM, Settings

log = structlog.get_logger("devnet")

T = TypeVar("T")

OWN = (
    *("cluster", "clusterName", "clusterCredentials", "nodeName", "nodeAddr", "reusePort"),
    *("ledger", "cliAddr", "iceUdpMuxPort"),
)
"""Flags that each node gets a value of its own for."""
NODE_READY = 120.0
CLOSING = 15.0
"""Seconds that a node may take to end, beyond the time for which it drains."""
MEET_DEADLINE = 15.0
"""Seconds until every node knows the others."""
WATCH_INTERVAL = 0.2
"""Seconds between two looks at whether a process was started again."""


def check_flags(parsed: Parsed) -> None:
    """Raises FlagError for flags that several gateways on one machine cannot share."""
    for name in OWN:
        if name in parsed.given:
            raise FlagError(
                f"-gateways has a value of its own for -{name} of each gateway: leave out -{name}"
            )


async def run_cluster(settings: Settings, argv: Sequence[str]) -> int:
    """Run all of it until SIGINT or SIGTERM; gives the exit status. `argv` are the flags of each node."""
    cluster = DevnetCluster(settings, argv)
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None
    stop = asyncio.Event()

    def signalled() -> None:
        """The first signal has the nodes drain, the second stop at once; one during the start ends that."""
        if stop.is_set():
            cluster.hurry()
        elif not cluster.ready:
            this.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled)
    try:
        async with AsyncExitStack() as stack:
            url = await cluster.start(stack)
            print(f"ready: {url}", flush=True)  # noqa: T201
            await stop.wait()
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    except OSError as error:
        print(f"{PROGRAM}: the devnet did not start: {error}", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        settings.remove_temporary_data()
    return 0


class DevnetCluster:
    """The network, NATS, PostgreSQL and the nodes, each a process of its own."""

    def __init__(self, settings: Settings, argv: Sequence[str]) -> None:
        assert settings.devnet is not None
        self.ready = False
        self._settings = settings
        self._argv = argv
        self._count = settings.devnet.gateways
        self._restart = settings.devnet.restart
        log_flags = (f"-v={settings.log_level}", f"-logFormat={settings.log_format}")
        self._devnet = Devnet(settings.devnet, settings.data_dir, log_flags=log_flags)
        self._file = settings.data_dir / "devnet.json"
        self._temporary = Path()
        self._engines: dict[str, Child] = {}
        self._nodes: list[Child] = []
        self._described: dict[str, Any] = {}

    async def start(self, stack: AsyncExitStack) -> str:
        """Start everything; gives the URL that all nodes share. `stack` ends it. Raises OSError."""
        make_folder(self._settings.data_dir)
        temporary = [self._settings.data_dir] if self._settings.data_dir_is_temporary else []
        folder = await stack.enter_async_context(temporary_folder("livepeer-cluster-", *temporary))
        self._temporary = folder / "tmp"
        make_folder(self._temporary)
        stack.push_async_callback(self._devnet.stop)
        nats, postgresql, _ = await _all(
            self._start_nats(stack),
            self._start_postgresql(folder / "postgresql", stack),
            self._start_network(),
        )
        address = self._shared_address(stack)
        self._nodes = [
            self._node(f"node-{number}", {"httpAddr": address, "cluster": nats, "ledger": postgresql}, stack)
            for number in range(1, self._count + 1)
        ]
        self._write_description()
        stack.push_async_callback(self._stop_nodes)
        first, *_ = await _all(*(node.start() for node in self._nodes))
        await self._meet()
        stack.push_async_callback(cancel, spawn(self._keep_description(), name="devnet description"))
        self._write_description()
        self.ready = True
        log.info("devnet ready", nodes=self._count, url=first["shared_url"])
        return str(first["shared_url"])

    def hurry(self) -> None:
        """Have the nodes stop at once that drain."""
        for node in self._nodes:
            node.terminate()

    def description(self) -> dict[str, Any]:
        """That of the network, and where the nodes and what they share are."""
        nats, postgresql = self._engines["nats-server"], self._engines["postgresql"]
        return {
            **self._devnet.description(),
            "nodes": [
                {"id": node.name, "url": node.ready["url"], "pid": node.pid}
                for node in self._nodes
                if node.launched
            ],
            "nats": {"url": nats.ready["url"], "pid": nats.pid},
            "postgresql": {"url": postgresql.ready["url"], "pid": postgresql.pid},
        }

    async def _start_nats(self, stack: AsyncExitStack) -> str:
        folder = self._settings.data_dir / "nats"
        make_folder(folder)
        return await self._start_engine(nats_server(folder, restart=self._restart), stack)

    async def _start_postgresql(self, folder: Path, stack: AsyncExitStack) -> str:
        return await self._start_engine(await make_postgresql(folder, restart=self._restart), stack)

    async def _start_engine(self, engine: Child, stack: AsyncExitStack) -> str:
        stack.push_async_callback(engine.stop)
        url = str((await engine.start())["url"])
        self._engines[engine.name] = engine
        return url

    async def _start_network(self) -> str:
        return str((await self._devnet.start())["signer"])

    def _shared_address(self, stack: AsyncExitStack) -> str:
        """The address of `-httpAddr`, which is kept for the nodes. Raises OSError."""
        host, port = self._settings.http.http_addr
        try:
            port = stack.enter_context(reserved_port(host, port))
        except OSError as error:
            raise OSError(f"-httpAddr {host}:{port} cannot be used ({error.strerror})") from error
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _node(self, name: str, shared: Mapping[str, str], stack: AsyncExitStack) -> Child:
        """A node, not started; `shared` are the flags that all have in common."""
        own = stack.enter_context(reserved_port("127.0.0.1", 0))
        flags: dict[str, object] = {
            **shared,
            "reusePort": "true",
            "nodeAddr": f"127.0.0.1:{own}",
            "nodeName": name,
            "dataDir": self._settings.data_dir / name,
        }
        if self._settings.http.cli_addr is not None:
            flags["cliAddr"] = "127.0.0.1:0"  # each node's own address has the operator's routes, too
        command = [
            sys.executable,
            "-m",
            "gateway",
            *self._argv,
            *(f"-{one}={it}" for one, it in flags.items()),
        ]

        async def says_ready(process: asyncio.subprocess.Process) -> Ready | None:
            assert process.stdout is not None
            async for line in process.stdout:
                word, _, url = line.decode().strip().partition(" ")
                if word == "ready:":
                    return {"url": f"http://127.0.0.1:{own}", "shared_url": url}
            return None

        return Child(
            name,
            lambda _: command,
            restart=self._restart,
            timing=ChildTiming(ready=NODE_READY, stop=self._settings.stream.drain_timeout + CLOSING),
            when_ready=says_ready,
            environment={
                **_flags_of(os.environ),
                VARIABLE: str(self._file),
                "TMPDIR": str(self._temporary),  # of a node that is killed nothing stays
            },
        )

    async def _meet(self) -> None:
        """Wait until every node knows all others: publishes go to each of them from then on."""
        until = time.monotonic() + MEET_DEADLINE
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=MEET_DEADLINE)) as http:
            for node in self._nodes:
                while await _known(http, f"{node.ready['url']}/nodes") < self._count:
                    if time.monotonic() > until:
                        raise OSError(f"{node.name} does not know the other nodes after {MEET_DEADLINE:g} s")
                    await asyncio.sleep(WATCH_INTERVAL)

    async def _stop_nodes(self) -> None:
        self.ready = False
        await asyncio.gather(*(node.stop() for node in self._nodes))

    async def _keep_description(self) -> None:
        """Write the description again when a process was started again."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            self._write_description()

    def _write_description(self) -> None:
        described = self.description()
        if described != self._described:
            write_description(self._file, described)
            self._described = described


async def _all(*starts: Awaitable[T]) -> list[T]:
    """What they give; when all have started or failed, raises the first failure."""
    outcomes = await asyncio.gather(*starts, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]


def _flags_of(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(VARIABLE_PREFIX)}


async def _known(http: aiohttp.ClientSession, url: str) -> int:
    """How many nodes a node knows; 0 where it does not answer."""
    try:
        async with http.get(url, raise_for_status=True) as response:
            return len((await response.json())["nodes"])
    except (aiohttp.ClientError, TimeoutError):
        return 0
