"""Orchestrators that are never used, `-orchBlocklist`: a list, or a file that may change."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from gateway.aio.stamp import Stamp, stamp
from gateway.candidates.verdict import Verdict
from gateway.flags import is_eth_address
from gateway.orchestrator.discovery import Listing
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.selection import Refusal
from gateway.orchestrator.urls import place

log = structlog.get_logger("orchestrators")

REREAD_INTERVAL = 1.0
"""Seconds between two looks at the file."""
_HOST_AND_PORT = re.compile(r".*://.*|.*:\d+")
_COMMENT = re.compile(r"(^|\s)#.*", re.MULTILINE)


class Blocklist:
    """Entries are Ethereum addresses, or hosts with ports. A file that cannot be read leaves the former ones.

    `clock` is monotonic seconds.
    """

    def __init__(
        self, entries: frozenset[str], path: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._entries = entries
        self._path = path
        self._clock = clock
        self._seen: Stamp | None = None if path is None else stamp(path)
        self._looked_at = clock()

    @classmethod
    def parse(cls, value: str) -> Blocklist:
        """Read the flag's value: the path of a file, or the entries. Raises ValueError."""
        path = Path(value).expanduser()
        try:
            if path.is_file():
                return cls(parse_entries(path.read_text(encoding="utf-8-sig")), path)
        except OSError as error:
            raise ValueError(error.strerror) from error
        return cls(parse_entries(value))

    def check(self, listing: Listing, info: OrchestratorInfo) -> Refusal | None:
        """The verdict on an orchestrator; None where no entry names it."""
        self._reread()
        for name in (info.recipient.lower(), info.address.lower(), place(listing.addr), place(info.url)):
            if name in self._entries:
                return Verdict.BLOCKED, f"-orchBlocklist names {name}"
        return None

    def _reread(self) -> None:
        if self._path is None or self._clock() - self._looked_at < REREAD_INTERVAL:
            return
        self._looked_at = self._clock()
        try:
            seen = stamp(self._path)
            if seen == self._seen:
                return
            self._seen = seen
            self._entries = parse_entries(self._path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            if self._seen is not None:
                log.error("block list not read, the former stays", file=str(self._path), error=str(error))
            self._seen = None
            return
        log.info("block list read", file=str(self._path), entries=len(self._entries))


def parse_entries(text: str) -> frozenset[str]:
    """The entries, between commas or white space; `#` starts a comment. ValueError for an invalid one."""
    return frozenset(_entry(word) for word in _COMMENT.sub("", text).replace(",", " ").split())


def _entry(word: str) -> str:
    if is_eth_address(word):
        return word.lower()
    if not _HOST_AND_PORT.fullmatch(word):
        raise ValueError(f"{word[:80]!r} is no Ethereum address, URL or host:port")
    return place(word)
