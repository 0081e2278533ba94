"""What `/discover-orchestrators` answers: the listed orchestrators, and the live runners of some of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp

from gateway.aio.bodies import BodyTooLarge, read_bounded
from gateway.devnet.go_texts import decode_json
from gateway.devnet.signer.config import ListedOrchestrator

TIMEOUT = aiohttp.ClientTimeout(total=5)
MAX_ANSWER = 1_048_576
CACHED_FOR = 25 * 60.0
"""Seconds that go-livepeer's signer gives a former answer of an orchestrator."""

Json = dict[str, Any]


class Discovery:
    """Asks orchestrators for their live runners, without checking their certificates.

    go-livepeer's signer keeps their answers for 25 minutes, a node's asks again for each call.
    """

    def __init__(self, http: aiohttp.ClientSession, clock: Callable[[], float]) -> None:
        self._http = http
        self._clock = clock
        self._kept: dict[str, tuple[float, list[Json]]] = {}

    async def go_entries(self, listed: Sequence[ListedOrchestrator], caps: Collection[str]) -> list[Json]:
        """Entries that serve one of `caps`, all where it is empty; an app counts as a capability."""
        entries = await asyncio.gather(*(self._go_entry(one) for one in listed))
        return [
            entry
            for entry in entries
            if entry is not None
            and (not caps or "capabilities" not in entry or not set(caps).isdisjoint(entry["capabilities"]))
        ]

    async def node_entries(
        self, listed: Sequence[ListedOrchestrator], apps: Collection[str], gpus: Collection[str]
    ) -> list[Json] | None:
        """Entries with the runners that match both, asked one by one; None where nobody answered."""
        found: list[Json] = []
        answered = False
        for one in listed:
            told = await self._ask(one.address)
            if told is None:
                continue
            answered = True
            seen = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            for entry in told:
                runners = [runner for runner in _runners(entry) if _matches(runner, apps, gpus)]
                if runners:
                    found.append(
                        {"address": entry.get("address"), "score": 1, "runners": runners, "last_seen": seen}
                    )
        return found if answered else None

    async def _go_entry(self, listed: ListedOrchestrator) -> Json | None:
        entry: Json = {"address": listed.address, "score": listed.score}
        capabilities = list(listed.capabilities)
        if listed.runners:
            runners = [runner for runner in await self._go_runners(listed.address) if _price(runner) > 0]
            if not runners:
                return None
            entry["runners"] = runners
            capabilities += dict.fromkeys(str(runner.get("app")) for runner in runners)
        if capabilities:
            entry["capabilities"] = capabilities
        return entry

    async def _go_runners(self, url: str) -> list[Json]:
        at, kept = self._kept.get(url, (0.0, []))
        if kept and self._clock() - at < CACHED_FOR:
            return kept
        runners = [runner for entry in await self._ask(url) or [] for runner in _runners(entry)]
        self._kept[url] = (self._clock(), runners)
        return runners

    async def _ask(self, url: str) -> list[Json] | None:
        """What an orchestrator's `/discovery` lists, None where it cannot be asked."""
        try:
            async with self._http.get(f"{url}/discovery", timeout=TIMEOUT, ssl=False) as answer:
                if answer.status != 200:
                    return None
                document = decode_json(await read_bounded(answer, MAX_ANSWER))
        except (aiohttp.ClientError, TimeoutError, ValueError, BodyTooLarge):
            return None
        return [one for one in document if isinstance(one, dict)] if isinstance(document, list) else None


def _runners(entry: Mapping[str, Any]) -> list[Json]:
    found = entry.get("runners")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _matches(runner: Json, apps: Collection[str], gpus: Collection[str]) -> bool:
    gpu = runner.get("gpu")
    name = gpu.get("name") if isinstance(gpu, dict) else None
    return (not apps or runner.get("app") in apps) and (not gpus or name in gpus)


def _price(runner: Json) -> int:
    info = runner.get("price_info")
    price = info.get("price") if isinstance(info, dict) else None
    return price if isinstance(price, int) else 0
