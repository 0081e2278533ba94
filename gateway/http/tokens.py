"""Token files: who may publish or watch which streams. Changes take effect without a restart."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import structlog

from gateway.aio.stamp import Stamp, stamp
from gateway.http.limit_words import AMOUNTS, COUNTS, limits_of
from gateway.http.token_words import CUSTOMER, MARKUP, SIGNER_HEADERS, customer_of, words_of
from gateway.outputs.recorder import RecordOf
from gateway.payments.customer import ANYBODY, Customer
from gateway.payments.spending import NO_LIMITS, StreamLimits

log = structlog.get_logger("access")

_COUNTS = ("maxStreams", "maxViewers", *COUNTS)
_CHOOSE = "chooseOrchestrator"
_OUTPUTS = "outputs"
_WORDS = (_CHOOSE, _OUTPUTS)
"""Words without a value."""
_RECORD = "record"
_KEYS = ("streams", "pipeline", _RECORD, CUSTOMER, SIGNER_HEADERS, MARKUP, *_COUNTS, *AMOUNTS)
STILL = 0.2
"""Seconds without a change after which a file that changed is read; until then the former one counts."""
_STARTS_OF_ONE_STREAM = 6
"""Paid starts a minute of a token for one stream at once, where it does not say."""


class BadTokenLine(ValueError):
    """An invalid line. The text does not contain the token."""


@dataclass(frozen=True)
class Grant:
    """What one token allows. `id` identifies it in counts without revealing it."""

    id: str
    streams: tuple[str, ...] = ("*",)
    """Shell patterns of stream names."""
    max_streams: int | None = None
    """Streams at once."""
    max_viewers: int | None = None
    """Viewers at once."""
    limits: StreamLimits = NO_LIMITS
    """Limits of its streams, where these are below the operator's."""
    may_choose: bool = False
    """Whether its publisher may name an orchestrator."""
    customer: Customer = ANYBODY
    """Whom its streams are for."""
    record: RecordOf | None = None
    """What of its streams is recorded; None: as for all."""
    may_output: bool = False
    """Whether its publisher may send streams on to other servers."""
    models: tuple[str, ...] = ()
    """Models that its publisher may ask for in any case; the first where it asks for none."""
    params: Mapping[str, Any] | None = None
    """The worker's parameters where the publish has none of that name."""
    within: tuple[str, ...] = ("*",)
    """Patterns that a name has to fit into as well: those of the token that made this one."""
    named: str | None = None
    """Whom limits over time count, where it is not the token."""

    @property
    def publisher(self) -> str:
        """Whom limits over time count, as the ledger keeps it."""
        return f"token {self.id}" if self.named is None else self.named

    def allows(self, stream: str) -> bool:
        return all(
            any(fnmatchcase(stream, pattern) for pattern in patterns)
            for patterns in (self.streams, self.within)
        )


def parse_line(line: str) -> tuple[bytes, Grant] | None:
    """A token's digest and what it allows; None for an empty line.

    A line is `TOKEN [streams=GLOB,..] [pipeline=MODEL,..] [maxStreams=N] [maxViewers=N]
    [chooseOrchestrator] [outputs] [record=WHAT] [customer=NAME] [signerHeaders=NAME:VALUE,..]
    [usageMarkup=N]` and limits, each as `maxSessionSpend=0.1ETH` (limit_words.py); `#` starts a comment, and
    values with spaces are quoted. Raises BadTokenLine, whose text has no header's value.
    """
    try:
        words = words_of(line)
    except ValueError as error:
        raise BadTokenLine(str(error)) from error
    if not words:
        return None
    digest = _digest(words[0])
    given: dict[str, str] = {}
    for number, word in enumerate(words[1:], 2):
        name, equals, value = word.partition("=")
        if word in _WORDS:
            continue
        if not equals or name not in _KEYS:
            shown = f"{name}=" if equals and name.isalpha() else f"word {number}"  # it may be a secret
            raise BadTokenLine(
                f"{shown} is invalid: a token may be followed by {', '.join(_WORDS)}, and by "
                f"{', '.join(_KEYS)}, each as name=value; values with spaces are quoted"
            )
        if name in given and name in (SIGNER_HEADERS, CUSTOMER):
            raise BadTokenLine(f"{name}= stands there twice")
        given[name] = value
    for name in _COUNTS:
        if name in given and not re.fullmatch(r"\d{1,9}", given[name]):
            raise BadTokenLine(f"{name}={given[name]} is not a whole number")
    patterns = tuple(part for part in given.get("streams", "*").split(",") if part)
    if _RECORD in given and given[_RECORD] not in tuple(RecordOf):
        raise BadTokenLine(f"record= takes {', '.join(RecordOf)}")
    if not patterns:
        raise BadTokenLine("streams= names no stream: leave it out to allow all")
    counts = {name: int(given[name]) for name in _COUNTS if name in given}
    if counts.get("maxStreams") == 1:
        counts.setdefault("maxPaidStartsPerMinute", _STARTS_OF_ONE_STREAM)
    try:
        limits = limits_of(
            {name: given[name] for name in AMOUNTS if name in given},
            {name: counts[name] for name in COUNTS if name in counts},
        )
        customer = customer_of(given.get(CUSTOMER, ""), given.get(SIGNER_HEADERS), given.get(MARKUP))
    except ValueError as error:
        raise BadTokenLine(str(error)) from error
    return digest, Grant(
        id=digest.hex()[:12],
        streams=patterns,
        max_streams=counts.get("maxStreams"),
        max_viewers=counts.get("maxViewers"),
        limits=limits,
        may_choose=_CHOOSE in words[1:],
        customer=customer,
        record=RecordOf(given[_RECORD]) if _RECORD in given else None,
        may_output=_OUTPUTS in words[1:],
        models=tuple(part for part in given.get("pipeline", "").split(",") if part),
    )


class TokenFile:
    """The tokens of one file, read again when it has changed and stands still.

    An invalid line is logged and skipped. While the file cannot be read, no token is valid. `clock` gives
    monotonic seconds, `wall` those of the file system.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._clock = clock
        self._wall = wall
        self._was_read = False
        self._changing: tuple[Stamp | None, float] | None = None
        """What the file looked like when it was found changed, and when that was."""
        self._seen: Stamp | None = None
        self._grants: Sequence[tuple[bytes, Grant]] = ()

    def check(self) -> None:
        """Raises OSError, UnicodeDecodeError or BadTokenLine (with the line's number) for an invalid file."""
        for number, line in enumerate(self._path.read_text(encoding="utf-8-sig").splitlines(), 1):
            try:
                parse_line(line)
            except BadTokenLine as error:
                raise BadTokenLine(f"line {number}: {error}") from error

    def find(self, token: str) -> Grant | None:
        """What `token` allows; None for an unknown one. Takes the same time for every unknown one."""
        self._reread()
        wanted = _digest(token)
        found: Grant | None = None
        for digest, grant in self._grants:
            if hmac.compare_digest(digest, wanted):
                found = grant
        return found

    def by_id(self, grant_id: str) -> Grant | None:
        """What the token with this id allows; None where it is gone."""
        self._reread()
        return next((grant for _, grant in self._grants if grant.id == grant_id), None)

    def _reread(self) -> None:
        now = _stamp(self._path)
        if self._was_read and (now == self._seen or not self._stands_still(now)):
            return
        self._was_read = True
        try:
            lines = self._path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            if self._grants:
                log.error(
                    "token file cannot be read, no token is valid", file=str(self._path), error=str(error)
                )
            self._seen, self._grants = None, ()
            return
        if _stamp(self._path) != now and self._seen is not None:
            return  # it was written to meanwhile
        self._grants = list(self._parsed(lines))
        self._seen, self._changing = now, None
        log.info("token file read", file=str(self._path), tokens=len(self._grants))

    def _stands_still(self, now: Stamp | None) -> bool:
        """Whether a file that has changed is whole: an editor or a script may write it in parts."""
        if self._wall() - _changed_at(self._path) >= STILL:
            return True
        if self._changing is None or self._changing[0] != now:
            self._changing = now, self._clock()
        return self._clock() - self._changing[1] >= STILL

    def _parsed(self, lines: Sequence[str]) -> list[tuple[bytes, Grant]]:
        found = []
        for number, line in enumerate(lines, 1):
            try:
                entry = parse_line(line)
            except BadTokenLine as error:
                log.error("token line skipped", file=str(self._path), line=number, error=str(error))
                continue
            if entry is not None:
                found.append(entry)
        return found


def _stamp(path: Path) -> Stamp | None:
    try:
        return stamp(path)
    except OSError:
        return None


def _changed_at(path: Path) -> float:
    """When the file was written, or taken out of its folder, by the wall clock."""
    for place in (path, path.parent):
        with suppress(OSError):
            return place.stat().st_mtime
    return 0.0


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
