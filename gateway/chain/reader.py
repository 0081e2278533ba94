"""Reads the protocol's contracts through web3. The only module that imports web3."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes
from typing_extensions import override

from gateway.chain import abi
from gateway.chain.errors import ChainError, ChainUnreachable
from gateway.chain.facts import LogEntry, Rounds, SenderFunds
from gateway.chain.importing import contained
from gateway.chain.networks import ChainNetwork
from gateway.chain.rpc import Endpoints

with contained():
    from web3 import AsyncWeb3
    from web3.exceptions import Web3Exception
    from web3.providers.async_base import AsyncJSONBaseProvider

ZERO_ADDRESS = "0x" + "0" * 40
MAX_IN_POOL = 500
"""Far more than are ever active: a longer list is wrong."""
LOGS_AT_ONCE = 20
"""Logs that are decoded before others have their turn: each takes half a millisecond."""
PER_BATCH = 10
"""Calls in one request: free plans allow few more per second."""

EVENTS = ("WinningTicketRedeemed", "WinningTicketTransfer")

T = TypeVar("T")


class ChainReader:
    """Reads the newest state of one network's contracts. All methods raise ChainError.

    The contracts' addresses come from the Controller, once, and again after `forget_contracts`.
    """

    def __init__(self, endpoints: Endpoints, network: ChainNetwork) -> None:
        self.endpoints = endpoints
        self._network = network
        self._web3: AsyncWeb3[Any] = AsyncWeb3(_Provider(endpoints), middleware=[])
        self._controller = self._contract(network.controller, abi.CONTROLLER)
        self._contracts: dict[str, Any] = {}

    def switch_endpoint(self) -> None:
        """Read from another endpoint next, where there is one."""
        self.endpoints.switch_endpoint()

    def forget_contracts(self) -> None:
        """Read the contracts' addresses again: they may change with a round."""
        self._contracts.clear()

    async def funds(self, sender: str) -> SenderFunds:
        """Deposit, reserve and unlock of a sender (checksummed address)."""
        broker = await self._named("TicketBroker", abi.TICKET_BROKER)
        return SenderFunds(*await self._read(broker.functions.getSenderInfo(sender).call))

    async def rounds(self) -> Rounds:
        """The chain's clocks."""
        manager = (await self._named("RoundsManager", abi.ROUNDS_MANAGER)).functions
        return Rounds(*await self._read_all([manager.blockNum(), manager.lastInitializedRound()]))

    async def active_orchestrators(self) -> list[tuple[str, str]]:
        """Address and service URI of the active orchestrators that have one, the AI registry's first."""
        pool = await self._active_pool()
        uris: dict[str, str] = {}
        for registry in await self._registries():
            unknown = [address for address in pool if not uris.get(address)]
            asked = [registry.functions.getServiceURI(address) for address in unknown]
            uris |= zip(unknown, await self._read_all(asked), strict=True)
        return [(address, uris[address]) for address in pool if uris[address]]

    async def head(self) -> int:
        """The number of the newest block."""
        return _number(await self.endpoints.ask("eth_blockNumber", []))

    async def block_hash(self, number: int) -> str | None:
        """The hash of a block as 0x text; None where there is no such block (any more)."""
        block = await self.endpoints.ask("eth_getBlockByNumber", [hex(number), False])
        if block is None:
            return None
        try:
            return str(block["hash"])
        except (TypeError, KeyError) as error:
            raise self._bad_answer("a block without a hash") from error

    async def redemptions(self, sender: str, first: int, last: int) -> list[LogEntry]:
        """Redemptions and transfers for a sender's tickets in these blocks, in the chain's order."""
        broker = await self._named("TicketBroker", abi.TICKET_BROKER)
        events = {str(event.topic): event for event in (getattr(broker.events, name)() for name in EVENTS)}
        wanted = {
            "address": broker.address,
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "topics": [list(events), "0x" + sender.removeprefix("0x").lower().rjust(64, "0")],
        }
        answer = await self.endpoints.ask("eth_getLogs", [wanted])
        try:
            entries = []
            for number, raw in enumerate(answer):
                if number % LOGS_AT_ONCE == 0:
                    await asyncio.sleep(0)
                entries.append(_log_entry(events[raw["topics"][0]], raw))
        except (Web3Exception, KeyError, TypeError, ValueError, IndexError) as error:
            raise self._bad_answer(f"logs that cannot be read ({type(error).__name__})") from error
        for entry in entries:
            asked_for = entry.contract == broker.address.lower() and first <= entry.block <= last
            if not asked_for or entry.arguments["sender"].lower() != sender.lower():
                raise self._bad_answer("logs that were not asked for")
        return sorted(entries, key=lambda entry: (entry.block, entry.index))

    async def contract(self, name: str, contract_abi: abi.Abi) -> Any:
        """The contract that the Controller has under this name, with the caller's ABI."""
        return self._contract(await self._address_of(name), contract_abi)

    # contracts and calls

    async def _active_pool(self) -> list[str]:
        bonding = (await self._named("BondingManager", abi.BONDING_MANAGER)).functions
        pool: dict[str, None] = {}
        address = await self._read(bonding.getFirstTranscoderInPool().call)
        while address != ZERO_ADDRESS:
            if address in pool or len(pool) == MAX_IN_POOL:
                raise self._bad_answer("an active pool without an end")
            pool[address] = None
            address = await self._read(bonding.getNextTranscoderInPool(address).call)
        return list(pool)

    async def _registries(self) -> list[Any]:
        """The registries of service URIs, that of AI orchestrators first."""
        ai_registry = self._network.ai_registry or await self._address_of("AIServiceRegistry")
        known = [] if ai_registry == ZERO_ADDRESS else [self._contract(ai_registry, abi.SERVICE_REGISTRY)]
        return [*known, await self._named("ServiceRegistry", abi.SERVICE_REGISTRY)]

    async def _named(self, name: str, contract_abi: abi.Abi) -> Any:
        if name not in self._contracts:
            address = await self._address_of(name)
            if address == ZERO_ADDRESS:
                raise ChainError(
                    f"the Controller {self._network.controller} has no {name}: is its address right?"
                )
            self._contracts[name] = self._contract(address, contract_abi)
        return self._contracts[name]

    async def _address_of(self, name: str) -> str:
        return str(await self._read(self._controller.functions.getContract(keccak(name.encode())).call))

    def _contract(self, address: str, contract_abi: abi.Abi) -> Any:
        return self._web3.eth.contract(address=to_checksum_address(address), abi=contract_abi)

    async def _read(self, call: Callable[[], Awaitable[T]]) -> T:
        """The answer to a call; one that cannot be decoded is asked for again, of the next endpoint."""
        for _ in range(len(self.endpoints)):
            try:
                return await call()
            except (Web3Exception, ValueError, TypeError) as error:
                trouble = self._bad_answer(f"an answer that cannot be decoded ({type(error).__name__})")
        raise trouble

    async def _read_all(self, calls: Sequence[Any]) -> list[Any]:
        """The answers to several calls, some in each request."""
        answers: list[Any] = []
        for first in range(0, len(calls), PER_BATCH):
            answers += await self._read(partial(self._ask_batch, calls[first : first + PER_BATCH]))
        return answers

    async def _ask_batch(self, calls: Sequence[Any]) -> list[Any]:
        async with self._web3.batch_requests() as batch:
            for call in calls:
                batch.add(call)
            return list(await batch.async_execute())

    def _bad_answer(self, what: str) -> ChainUnreachable:
        self.endpoints.demote(what)
        return ChainUnreachable(f"the RPC endpoint gives {what}")


class _Provider(AsyncJSONBaseProvider):
    """Sends web3's requests through `Endpoints`."""

    def __init__(self, endpoints: Endpoints) -> None:
        super().__init__()
        self._endpoints = endpoints

    @override
    async def make_request(self, method: Any, params: Any) -> Any:
        return _answer(await self._endpoints.ask(method, _plain(params)))

    @override
    async def make_batch_request(self, requests: list[Any]) -> Any:
        results = await self._endpoints.ask_all([(method, _plain(params)) for method, params in requests])
        return [_answer(result) for result in results]


def _answer(result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": result}


def _plain(value: Any) -> Any:
    """Parameters as plain JSON values."""
    match value:
        case bytes():
            return "0x" + value.hex()
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    return value


def _log_entry(event: Any, raw: dict[str, Any]) -> LogEntry:
    read = event.process_log(
        {**raw, "topics": [HexBytes(topic) for topic in raw["topics"]], "data": HexBytes(raw["data"])}
    )
    return LogEntry(
        event=str(read["event"]),
        contract=str(raw["address"]).lower(),
        block=int(raw["blockNumber"], 16),
        block_hash=str(raw["blockHash"]),
        transaction=str(raw["transactionHash"]),
        index=int(raw["logIndex"], 16),
        arguments=dict(read["args"]),
    )


def _number(value: Any) -> int:
    try:
        return int(value, 16)
    except (TypeError, ValueError) as error:
        raise ChainUnreachable("the RPC endpoint gives something that is not a number") from error
