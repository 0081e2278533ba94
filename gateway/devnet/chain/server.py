"""The chain as a server: JSON-RPC on a port; L1 blocks and rounds follow the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiohttp import web

from gateway.aio.tasks import cancel, spawn
from gateway.chain.importing import contained
from gateway.devnet.chain.evm import GAS_MONEY, UNLOCK_ROUNDS, Evm
from gateway.devnet.chain.logs import BLOOM_BYTES, LogIndex, bloom
from gateway.devnet.chain_clock import ChainClock

with contained():
    from eth_tester.exceptions import BlockNotFound, TransactionFailed, TransactionNotFound
    from web3 import EthereumTesterProvider, Web3

log = structlog.get_logger("devnet.chain")

FASTEST_TICK = 1.0
"""Seconds between two updates from the clock at least."""
GRACE = 1.0
REVERTED, FAILED, INVALID_REQUEST = 3, -32000, -32600


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainConfig:
    """`deposit` and `reserve` are the wei that a sender is funded with when it is registered."""

    host: str = "127.0.0.1"
    port: int = 0
    clock: ChainClock = field(default_factory=ChainClock)
    deposit: int
    reserve: int
    unlock_rounds: int = UNLOCK_ROUNDS


class ChainServer:
    """`start` listens, `stop` ends it together with the chain."""

    url: str

    def __init__(self, config: ChainConfig, evm: Evm) -> None:
        self._config = config
        self.evm = evm
        # Without web3's middleware: requests are passed through unchanged.
        provider = EthereumTesterProvider(evm.tester)
        web3 = Web3(provider, middleware=[])
        self._logs = LogIndex(evm.tester)
        self._request = provider.request_func(web3, web3.middleware_onion)
        self._funded: set[str] = set()
        self._cleanup = AsyncExitStack()

    async def start(self) -> str:
        """Listen; returns the URL."""
        async with AsyncExitStack() as stack:
            self._tick()
            ticking = spawn(self._keep_time(), name="chain clock")
            stack.push_async_callback(cancel, ticking)
            app = web.Application()
            app.router.add_post("/", self._rpc)
            app.router.add_put("/devnet/participants", self._participants)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, self._config.host, self._config.port).start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            self._cleanup = stack.pop_all()
        log.info("chain listens", url=self.url, controller=self.evm.controller.address)
        return self.url

    async def stop(self) -> None:
        await self._cleanup.aclose()

    # the clock

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(max(FASTEST_TICK, self._config.clock.block_time))
            self._tick()

    def _tick(self) -> None:
        clock = self._config.clock
        number = clock.round()
        self.evm.advance(clock.block(), number, clock.round_block_hash(number))

    # JSON-RPC

    async def _rpc(self, request: web.Request) -> web.Response:
        try:
            body: Any = await request.json()
        except ValueError:
            return web.json_response(_error(None, INVALID_REQUEST, "not JSON"))
        if isinstance(body, list):
            return web.json_response([self._answer(call) for call in body])
        return web.json_response(self._answer(body))

    def _answer(self, call: Any) -> dict[str, Any]:
        match call:
            case {"method": str(method), **rest}:
                identifier = rest.get("id")
                params: Any = rest.get("params", [])
            case _:
                return _error(None, INVALID_REQUEST, "not a JSON-RPC request")
        try:
            if method == "eth_getLogs":
                return {"jsonrpc": "2.0", "id": identifier, "result": self._find_logs(params[0])}
            answer: Any = self._request(method, params)
        except TransactionFailed as error:
            return _error(identifier, REVERTED, str(error))
        except (BlockNotFound, TransactionNotFound):
            return {"jsonrpc": "2.0", "id": identifier, "result": None}
        except Exception as error:  # of the EVM or a codec: report it to the caller, keep the chain running
            return _error(identifier, FAILED, f"{type(error).__name__}: {error}")
        if "error" in answer:
            return {**answer, "id": identifier}
        return {"jsonrpc": "2.0", "id": identifier, "result": _hexed(answer["result"])}

    def _find_logs(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        address = wanted.get("address")
        return self._logs.find(
            self._block_number(wanted.get("fromBlock", "latest")),
            self._block_number(wanted.get("toBlock", "latest")),
            addresses=[address] if isinstance(address, str) else address,
            topics=wanted.get("topics") or (),
            block_hash=wanted.get("blockHash"),
        )

    def _block_number(self, block: str) -> int:
        match block:
            case "earliest":
                return 0
            case "latest" | "pending" | "safe" | "finalized":
                return self._logs.newest
        return int(block, 16)

    # the network around it

    async def _participants(self, request: web.Request) -> web.Response:
        """`{"sender": "0x..", "orchestrators": [{"address": "0x..", "redeemer": "0x..", "uri": "https://.."}]}`.

        Registers the orchestrators and funds the sender. Sender and redeemers, which send transactions for
        the orchestrators, get gas money. No account is funded twice.
        """
        wanted = await request.json()
        sender = wanted["sender"]
        if sender not in self._funded:
            self._funded.add(sender)
            self.evm.fund(sender, deposit=self._config.deposit, reserve=self._config.reserve)
            self.evm.give(sender, GAS_MONEY)
        for orchestrator in wanted["orchestrators"]:
            self.evm.register(orchestrator["address"], orchestrator["uri"])
            redeemer = orchestrator.get("redeemer", orchestrator["address"])
            if redeemer not in self._funded:
                self._funded.add(redeemer)
                self.evm.give(redeemer, GAS_MONEY)
        return web.json_response({})


def _error(identifier: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "error": {"code": code, "message": message}}


def _hexed(value: Any) -> Any:
    """A result in JSON-RPC's form: numbers and bytes as 0x text."""
    match value:
        case bool() | None | str():
            return value
        case int():
            return hex(value)
        case bytes():
            return "0x" + value.hex()
        case Mapping():
            fields = {key: _hexed(item) for key, item in value.items()}
            if "logs" in fields:
                fields["logsBloom"] = hex(bloom(fields["logs"]))
            if "logsBloom" in fields:
                fields["logsBloom"] = f"0x{int(fields['logsBloom'], 16):0{2 * BLOOM_BYTES}x}"
            return fields
        case list() | tuple():
            return [_hexed(item) for item in value]
    return str(value)


async def serve(config: ChainConfig) -> ChainServer:
    """Make a chain and serve it at `server.url`."""
    server = ChainServer(config, await asyncio.to_thread(Evm, config.unlock_rounds))
    await server.start()
    return server
