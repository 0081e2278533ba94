"""The chain's event logs, read from each block once: eth-tester's own search is quadratic in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from eth_hash.auto import keccak

from gateway.chain.importing import contained

with contained():
    from eth_tester import EthereumTester

BLOOM_BYTES = 256
Topics = Sequence[str | Sequence[str] | None]
"""What each topic may be: a value, one of several, or anything."""


@dataclass(frozen=True, slots=True)
class BlockLogs:
    """The logs of one block in JSON-RPC's form, addresses and topics in lower case."""

    block_hash: str
    logs: tuple[dict[str, Any], ...]


class LogIndex:
    """`find` reads the blocks that are new since the last call. Blocks that were undone are read again."""

    def __init__(self, tester: EthereumTester) -> None:
        self._chain = tester.backend.chain
        self._blocks: list[BlockLogs] = []

    def find(
        self,
        first: int,
        last: int | None,
        *,
        addresses: Sequence[str] | None = None,
        topics: Topics = (),
        block_hash: str | None = None,
    ) -> list[dict[str, Any]]:
        """The logs of blocks `first` to `last` (None: the newest), or of one block, that match."""
        self._read()
        if block_hash is not None:
            blocks = [block for block in self._blocks if block.block_hash == block_hash.lower()]
        else:
            blocks = self._blocks[max(0, first) : None if last is None else last + 1]
        wanted = None if addresses is None else {address.lower() for address in addresses}
        return [
            log
            for block in blocks
            for log in block.logs
            if (wanted is None or log["address"] in wanted) and _topics_match(log["topics"], topics)
        ]

    @property
    def newest(self) -> int:
        """The number of the newest block."""
        return int(self._chain.get_block().number) - 1

    def _read(self) -> None:
        newest = self.newest
        del self._blocks[newest + 1 :]
        while self._blocks and self._hash(len(self._blocks) - 1) != self._blocks[-1].block_hash:
            self._blocks.pop()
        for number in range(len(self._blocks), newest + 1):
            block = self._chain.get_canonical_block_by_number(number)
            self._blocks.append(BlockLogs(_hex(block.hash), tuple(self._logs_of(block))))

    def _hash(self, number: int) -> str:
        return _hex(self._chain.get_canonical_block_by_number(number).hash)

    def _logs_of(self, block: Any) -> Iterator[dict[str, Any]]:
        index = 0
        receipts = block.get_receipts(self._chain.chaindb)
        for place, (transaction, receipt) in enumerate(zip(block.transactions, receipts, strict=True)):
            for log in receipt.logs:
                yield {
                    "address": _hex(log.address),
                    "topics": [_hex(topic.to_bytes(32, "big")) for topic in log.topics],
                    "data": _hex(log.data),
                    "blockNumber": hex(block.number),
                    "blockHash": _hex(block.hash),
                    "transactionHash": _hex(transaction.hash),
                    "transactionIndex": hex(place),
                    "logIndex": hex(index),
                    "removed": False,
                }
                index += 1


def bloom(logs: Sequence[dict[str, Any]]) -> int:
    """The bloom filter of logs in JSON-RPC's form: three of 2,048 bits for each address and topic."""
    bits = 0
    for log in logs:
        for value in (log["address"], *log["topics"]):
            hashed = keccak(bytes.fromhex(value[2:]))
            for place in (0, 2, 4):
                bits |= 1 << (int.from_bytes(hashed[place : place + 2], "big") & 2047)
    return bits


def _topics_match(topics: Sequence[str], wanted: Topics) -> bool:
    if len(wanted) > len(topics):
        return False
    for topic, choice in zip(topics, wanted, strict=False):
        if choice is None:
            continue
        choices = [choice] if isinstance(choice, str) else choice
        if choices and topic not in [one.lower() for one in choices]:
            return False
    return True


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
