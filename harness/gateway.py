"""The real daemon as a process, for tests and benchmarks."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from harness.processes import program as running
from harness.waiting import DEADLINE, eventually, within

BIN = Path(sys.executable).parent
READY_DEADLINE = 60.0
STOP_DEADLINE = 30.0
STREAMS_HOLD = ("peers", "streams", "viewers", "trickle", "sessions", "held_bytes")
"""The counters of `debug/state` that are 0 without streams."""
CONNECTIONS_HOLD = ("tasks_total", "fds", "threads")
"""Those that idle connections to orchestrators hold too, which are kept for 15 to 30 s."""
IDLE_CONNECTIONS = 8
"""The most idle connections to one orchestrator; more are a leak."""
GIVEN_BACK_DEADLINE = 60.0
NO_AUTHORITIES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
"""In a process's environment: its TLS knows no authorities. To read a system's takes 50 ms a process."""


class GatewayProcess:
    """`livepeer-gateway` with the given flags, and what its routes say."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, http: aiohttp.ClientSession) -> None:
        self.process = process
        self.log = log
        self.http = http
        self.url = ""
        self.seconds_to_ready = 0.0

    @property
    def pid(self) -> int:
        return self.process.pid

    def live(self, path: str) -> str:
        return f"{self.url}live/video-to-video/{path}"

    async def listening(self) -> None:
        """Wait until it listens, ready or not: from its log, and then under `url`."""

        def listens() -> str:
            said = self.log.read_text().partition("gateway listens")[2].partition("\n")[0]
            assert said or self.process.returncode is None, "it ended"
            return said.partition("url=")[2]

        try:
            self.url = (await eventually(listens, deadline=READY_DEADLINE, what="the listener")).split()[0]
        except AssertionError as late:
            raise AssertionError(f"{late}; its log:\n{self.log.read_text()[-3000:]}") from None

    async def get(self, path: str) -> Any:
        """JSON of one of the gateway's routes."""
        async with self.http.get(self.url + path.lstrip("/")) as response:
            assert response.status == 200, f"{path}: {response.status} {await response.text()}"
            return await response.json()

    async def status(self, stream: str) -> dict[str, Any]:
        """The gateway's part of a stream's status."""
        async with self.http.get(self.live(f"{stream}/status")) as response:
            assert response.status == 200, await response.text()
            return dict((await response.json())["gateway_status"])

    async def holds(self) -> dict[str, int]:
        """Everything that a stream takes and has to give back."""
        state = await self.get("debug/state")
        return {what: state[what] for what in (*STREAMS_HOLD, *CONNECTIONS_HOLD)}

    async def given_back(self, before: Mapping[str, int] | None = None, *, after: str = "the stream") -> None:
        """Wait until nothing is held beyond what `before` names; without it, nothing for any stream."""
        limits = dict.fromkeys(STREAMS_HOLD, 0) if before is None else before
        state: dict[str, Any] = {}

        async def within_limits() -> bool:
            state.update(await self.get("debug/state"))
            return all(state[what] <= limit for what, limit in limits.items())

        try:
            await eventually(within_limits, deadline=GIVEN_BACK_DEADLINE)
        except AssertionError:
            more = {what: (limit, state[what]) for what, limit in limits.items() if state[what] > limit}
            raise AssertionError(f"{after} left behind {more}: {state['tasks']}") from None

    async def devnet(self) -> dict[str, Any]:
        return dict(await self.get("devnet"))

    async def restart_signer(self) -> None:
        """Kill the devnet's signer (`-restart`), and wait for the next one."""
        killed = (await self.devnet())["signer_pid"]
        os.kill(killed, signal.SIGKILL)

        async def restarted() -> bool:
            return bool((await self.devnet())["signer_pid"] != killed)

        await eventually(restarted, what="the signer's restart")

    async def audits(self) -> list[dict[str, Any]]:
        """What the audit of each orchestrator says, those of live runners among them."""
        devnet = await self.devnet()
        everybody = (*devnet["orchestrators"], *devnet["runners"])
        return [await self.fetch(orchestrator["audit_url"]) for orchestrator in everybody]

    async def signer_audit(self) -> dict[str, Any]:
        return dict(await self.fetch((await self.devnet())["signer_audit_url"]))

    async def fetch(self, url: str) -> Any:
        async with self.http.get(url, ssl=False) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def stop(self) -> int:
        """SIGTERM, and the exit status that follows."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await within(self.process.wait(), deadline=STOP_DEADLINE, what="the gateway to stop")


@asynccontextmanager
async def gateway_process(
    folder: Path,
    *flags: str,
    devnet: bool = True,
    wait_ready: bool = True,
    ready_deadline: float = READY_DEADLINE,
    program: Sequence[str | Path] = (BIN / "livepeer-gateway",),
) -> AsyncIterator[GatewayProcess]:
    """A gateway on a free port with its log in `folder`; stopped at the end, whatever happened.

    Its devnet has one orchestrator, unless the flags say how many.
    """
    log = folder / f"gateway-{time.monotonic_ns()}.log"
    network = ["-devnet", *one_orchestrator(flags)] if devnet else []
    arguments = [*network, "-httpAddr", "127.0.0.1:0", *flags]
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        stderr = stack.enter_context(log.open("wb"))
        http = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE))
        )
        process = await stack.enter_async_context(
            running(
                *program,
                *arguments,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=_environment(folder),
            )
        )
        gateway = GatewayProcess(process, log, http)
        if wait_ready:
            gateway.url = await within(_ready_line(gateway), deadline=ready_deadline, what="the gateway")
            gateway.seconds_to_ready = time.monotonic() - started
        yield gateway
        if process.returncode is None:
            await gateway.stop()


def one_orchestrator(flags: Iterable[str]) -> list[str]:
    """The flags of a devnet with one orchestrator, none where `flags` name a number."""
    return [] if "-orchestrators" in flags else ["-orchestrators", "1"]


async def _ready_line(gateway: GatewayProcess) -> str:
    assert gateway.process.stdout is not None
    async for line in gateway.process.stdout:
        words = line.decode().split()
        if words[:1] == ["ready:"]:
            return words[1]
    raise AssertionError(f"the gateway ended before it was ready:\n{gateway.log.read_text()[-3000:]}")


def _environment(folder: Path) -> dict[str, str]:
    """Without the user's flags and ledger; without waiting for streams or publishers at the end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LP_")}
    quick = {"LP_DRAINTIMEOUT": "0s", "LP_RESUMETIMEOUT": "0s"}
    return {**kept, **NO_AUTHORITIES, "XDG_DATA_HOME": str(folder), **quick}
