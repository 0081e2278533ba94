"""Runners that may hold a session of ours: the answer to its reserve reached nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from gateway.runner.offer import RunnerOffer


class UnansweredReserves:
    """Offers that have room for us, whatever their orchestrator says: it may be our session that takes it.

    Whoever starts there hands out the same payment and takes the session over. `clock` is monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, tuple[float, RunnerOffer]] = {}

    def add(self, offer: RunnerOffer, seconds: float) -> None:
        """The session may live for so many seconds more. A full runner may be listed by nobody meanwhile."""
        self._until[offer.url] = self._clock() + seconds, replace(offer, room=None)

    def taken(self, url: str) -> None:
        """Somebody takes it over."""
        self._until.pop(url, None)

    def among(self, listed: dict[str, RunnerOffer]) -> dict[str, RunnerOffer]:
        """The listed offers by their URLs, and those of such runners."""
        now = self._clock()
        self._until = {url: kept for url, kept in self._until.items() if now < kept[0]}
        ours = {url: replace(listed.get(url, offer), room=None) for url, (_, offer) in self._until.items()}
        return {**listed, **ours}
