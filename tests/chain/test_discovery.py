"""Discovery of orchestrators on chain, with its cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.chain.discovery import ChainSource
from gateway.chain.errors import ChainUnreachable
from gateway.chain.facts import Rounds
from gateway.chain.reader import ChainReader
from gateway.devnet.account import Account
from gateway.devnet.chain.evm import Evm
from gateway.orchestrator.discovery import DiscoveryFailed, Listing

pytestmark = pytest.mark.asyncio

FIRST, SECOND = (Account(bytes([n]) * 32).address for n in (21, 22))
A, B = "https://a.example:8935", "https://b.example:8935"


class Pool:
    """A chain with a pool that a test writes; None is an endpoint out of reach."""

    def __init__(self, *orchestrators: tuple[str, str]) -> None:
        self.orchestrators: list[tuple[str, str]] | None = list(orchestrators)
        self.round = 10
        self.read = 0
        self.forgotten = 0

    async def rounds(self) -> Rounds:
        if self.orchestrators is None:
            raise ChainUnreachable("no RPC endpoint answers")
        return Rounds(1000, self.round)

    async def active_orchestrators(self) -> list[tuple[str, str]]:
        self.read += 1
        assert self.orchestrators is not None
        return self.orchestrators

    def forget_contracts(self) -> None:
        self.forgotten += 1


async def test_the_pool_is_listed_with_the_addresses_it_must_answer_with(
    reader: ChainReader, evm: Evm, tmp_path: Path
) -> None:
    evm.register(FIRST, A)
    evm.register(SECOND, "not a service URI")
    source = ChainSource(reader, tmp_path / "pool.json")
    assert await source.listings() == [Listing(A, (FIRST,))]


async def test_an_address_that_registers_anothers_uri_does_not_replace_it(tmp_path: Path) -> None:
    chain = Pool((SECOND, A), (FIRST, A))
    (listing,) = await ChainSource(chain, tmp_path / "pool.json").listings()
    assert listing.allows(FIRST)
    assert listing.allows(SECOND.lower())
    assert not listing.allows("0x" + "00" * 20)


async def test_the_disk_answers_first_and_the_chain_at_once_after_it(tmp_path: Path) -> None:
    now, cache = 1000.0, tmp_path / "pool.json"
    await ChainSource(Pool((FIRST, A)), cache, wall=lambda: now).listings()
    chain = Pool((SECOND, B))
    source, now = ChainSource(chain, cache, wall=lambda: now), 5000.0
    assert source.interval == 0
    assert await source.listings() == [Listing(A, (FIRST,))]
    assert chain.read == 0
    assert source.json() == {"listed": 1, "age_s": 4000.0, "round": 10, "from": "disk"}
    assert await source.listings() == [Listing(B, (SECOND,))]
    assert source.json() == {"listed": 1, "age_s": 0.0, "round": 10, "from": "chain"}


async def test_without_an_rpc_endpoint_the_list_on_disk_stays(tmp_path: Path) -> None:
    cache = tmp_path / "pool.json"
    await ChainSource(Pool((FIRST, A)), cache).listings()
    gone = Pool()
    gone.orchestrators = None
    source = ChainSource(gone, cache)
    assert await source.listings() == [Listing(A, (FIRST,))]
    with pytest.raises(DiscoveryFailed, match="no RPC endpoint answers"):
        await source.listings()


async def test_the_list_is_read_again_each_round_and_each_hour_only(tmp_path: Path) -> None:
    now, chain = 1000.0, Pool((FIRST, A))
    source = ChainSource(chain, tmp_path / "pool.json", wall=lambda: now)
    await source.listings()
    await source.listings()
    assert (chain.read, chain.forgotten) == (1, 0)
    chain.round += 1
    await source.listings()
    assert (chain.read, chain.forgotten) == (2, 1)
    now += 3601
    await source.listings()
    assert (chain.read, chain.forgotten) == (3, 1)
    now -= 500_000
    await source.listings()
    assert chain.read == 4, "a wall clock that was set back makes no list young"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"orchestrators": 3}', "[" * 100_000, "\x00\xff"])
async def test_a_broken_cache_is_ignored(tmp_path: Path, content: str) -> None:
    cache = tmp_path / "pool.json"
    cache.write_text(content, encoding="latin-1")
    assert await ChainSource(Pool((FIRST, A)), cache).listings() == [Listing(A, (FIRST,))]


async def test_an_empty_pool_is_a_failure_and_does_not_overwrite_the_cache(tmp_path: Path) -> None:
    cache = tmp_path / "pool.json"
    await ChainSource(Pool((FIRST, A)), cache).listings()
    source = ChainSource(Pool(), cache)
    await source.listings()
    with pytest.raises(DiscoveryFailed, match="empty"):
        await source.listings()
    assert FIRST in cache.read_text()


async def test_a_cache_that_cannot_be_written_costs_only_the_cache(tmp_path: Path) -> None:
    source = ChainSource(Pool((FIRST, A)), tmp_path / "missing" / "pool.json")
    assert await source.listings() == [Listing(A, (FIRST,))]
