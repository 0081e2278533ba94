"""The protocol's contracts, read through web3: the one module that loads it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes

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

NOBODY = "0x" + "0" * 40
MAX_IN_POOL = 500
"""More than ever are active: a list that goes on is a lie."""
PER_BATCH = 10
"""Questions put into one request: free plans allow few more a second."""

EVENTS = ("WinningTicketRedeemed", "WinningTicketTransfer")

T = TypeVar("T")


class ChainReader:
    """Questions to the contracts of one network; every answer is the newest. Raises ChainError.

    Where the contracts are is asked of the Controller once, and again after `forget`.
    """

    def __init__(self, endpoints: Endpoints, network: ChainNetwork) -> None:
        self.endpoints = endpoints
        self._network = network
        self._web3: AsyncWeb3[Any] = AsyncWeb3(_Provider(endpoints), middleware=[])
        self._controller = self._contract(network.controller, abi.CONTROLLER)
        self._contracts: dict[str, Any] = {}

    def turn_to_another(self) -> None:
        """Put the next questions to another endpoint, where there is one."""
        self.endpoints.turn_to_another()

    def forget(self) -> None:
        """Ask the Controller again where the contracts are: they may move at a round's change."""
        self._contracts.clear()

    async def funds(self, sender: str) -> SenderFunds:
        """Deposit, reserve and unlock of a sender (checksummed address)."""
        broker = await self._named("TicketBroker", abi.TICKET_BROKER)
        return SenderFunds(*await self._read(broker.functions.getSenderInfo(sender).call))

    async def rounds(self) -> Rounds:
        """The chain's clock."""
        manager = (await self._named("RoundsManager", abi.ROUNDS_MANAGER)).functions
        return Rounds(*await self._read_all([manager.blockNum(), manager.lastInitializedRound()]))

    async def ticket_validity_period(self) -> int:
        """For how many rounds from its creation a ticket can be redeemed."""
        broker = await self._named("TicketBroker", abi.TICKET_BROKER)
        return int(await self._read(broker.functions.ticketValidityPeriod().call))

    async def active_orchestrators(self) -> list[tuple[str, str]]:
        """Address and service URI of everybody in the active pool who has one, the AI registry's first."""
        pool = await self._active_pool()
        uris: dict[str, str] = {}
        for registry in await self._registries():
            unknown = [address for address in pool if not uris.get(address)]
            asked = [registry.functions.getServiceURI(address) for address in unknown]
            uris |= zip(unknown, await self._read_all(asked), strict=True)
        return [(address, uris[address]) for address in pool if uris[address]]

    async def head(self) -> int:
        """The number of the newest block of the chain that the contracts are on."""
        return _number(await self.endpoints.ask("eth_blockNumber", []))

    async def block_hash(self, number: int) -> str | None:
        """The hash of a block as 0x text; None where there is no such block (any more)."""
        block = await self.endpoints.ask("eth_getBlockByNumber", [hex(number), False])
        if block is None:
            return None
        try:
            return str(block["hash"])
        except (TypeError, KeyError) as error:
            raise self._nonsense("a block without a hash") from error

    async def redemptions(self, sender: str, first: int, last: int) -> list[LogEntry]:
        """What was redeemed and transferred of a sender's tickets in these blocks, in the chain's order."""
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
            entries = [_log_entry(events[raw["topics"][0]], raw) for raw in answer]
        except (Web3Exception, KeyError, TypeError, ValueError, IndexError) as error:
            raise self._nonsense(f"logs that cannot be read ({type(error).__name__})") from error
        for entry in entries:
            asked_for = entry.contract == broker.address.lower() and first <= entry.block <= last
            if not asked_for or entry.arguments["sender"].lower() != sender.lower():
                raise self._nonsense("logs that it was not asked for")
        return sorted(entries, key=lambda entry: (entry.block, entry.index))

    async def contract(self, name: str, contract_abi: abi.Abi) -> Any:
        """The contract that the Controller knows by this name, with another ABI than those read here."""
        return self._contract(await self._address_of(name), contract_abi)

    # how it is done

    async def _active_pool(self) -> list[str]:
        bonding = (await self._named("BondingManager", abi.BONDING_MANAGER)).functions
        pool: dict[str, None] = {}
        address = await self._read(bonding.getFirstTranscoderInPool().call)
        while address != NOBODY:
            if address in pool or len(pool) == MAX_IN_POOL:
                raise self._nonsense("an active pool without an end")
            pool[address] = None
            address = await self._read(bonding.getNextTranscoderInPool(address).call)
        return list(pool)

    async def _registries(self) -> list[Any]:
        """Where service URIs are registered, the AI orchestrators' own first."""
        ai_registry = self._network.ai_registry or await self._address_of("AIServiceRegistry")
        known = [] if ai_registry == NOBODY else [self._contract(ai_registry, abi.SERVICE_REGISTRY)]
        return [*known, await self._named("ServiceRegistry", abi.SERVICE_REGISTRY)]

    async def _named(self, name: str, contract_abi: abi.Abi) -> Any:
        if name not in self._contracts:
            address = await self._address_of(name)
            if address == NOBODY:
                raise ChainError(
                    f"the Controller {self._network.controller} knows no {name}: is it the right one?"
                )
            self._contracts[name] = self._contract(address, contract_abi)
        return self._contracts[name]

    async def _address_of(self, name: str) -> str:
        return str(await self._read(self._controller.functions.getContract(keccak(name.encode())).call))

    def _contract(self, address: str, contract_abi: abi.Abi) -> Any:
        return self._web3.eth.contract(address=to_checksum_address(address), abi=contract_abi)

    async def _read(self, call: Callable[[], Awaitable[T]]) -> T:
        """A contract's answer; one that cannot be decoded is asked for again elsewhere."""
        for _ in range(len(self.endpoints)):
            try:
                return await call()
            except (Web3Exception, ValueError, TypeError) as error:
                trouble = self._nonsense(f"an answer that cannot be decoded ({type(error).__name__})")
        raise trouble

    async def _read_all(self, questions: Sequence[Any]) -> list[Any]:
        """The answers to questions to contracts, a few in each request."""
        answers: list[Any] = []
        for first in range(0, len(questions), PER_BATCH):
            answers += await self._read(partial(self._ask_batch, questions[first : first + PER_BATCH]))
        return answers

    async def _ask_batch(self, questions: Sequence[Any]) -> list[Any]:
        async with self._web3.batch_requests() as batch:
            for question in questions:
                batch.add(question)
            return list(await batch.async_execute())

    def _nonsense(self, what: str) -> ChainUnreachable:
        self.endpoints.distrust(what)
        return ChainUnreachable(f"the RPC endpoint gives {what}")


class _Provider(AsyncJSONBaseProvider):
    """Lets web3 ask through `Endpoints`."""

    def __init__(self, endpoints: Endpoints) -> None:
        super().__init__()
        self._endpoints = endpoints

    async def make_request(self, method: Any, params: Any) -> Any:
        return _answer(await self._endpoints.ask(method, _plain(params)))

    async def make_batch_request(self, requests: list[Any]) -> Any:
        results = await self._endpoints.ask_all([(method, _plain(params)) for method, params in requests])
        return [_answer(result) for result in results]


def _answer(result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": result}


def _plain(value: Any) -> Any:
    """Parameters as JSON has them."""
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
        raise ChainUnreachable("the RPC endpoint gives a number that is none") from error
