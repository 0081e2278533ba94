"""The public keys of an issuer of tokens (JWKS, RFC 7517), read from its URL and kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp
import jwt
import structlog

from gateway.aio.bodies import BodyTooLarge, read_bounded
from gateway.aio.json_text import parse_json

log = structlog.get_logger("access")

TIMEOUT = 5.0
MAX_BYTES = 256 * 1024
MAX_KEYS = 100
REFRESH = 600.0
"""Seconds after which the keys are read again when one is needed: one that was withdrawn is gone then."""
RETRY = 10.0
"""Seconds between two reads at least, whoever sends which tokens."""
LONGEST_KEPT = 24 * 3600.0
"""Seconds for which keys count that cannot be read anew."""


class KeysUnreachable(Exception):
    """No keys are known, and they cannot be read now."""


class KeySet:
    """The keys at `url`. `clock` gives monotonic seconds."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._http = http
        self._url = url
        self._clock = clock
        self._lock = asyncio.Lock()
        self._keys: list[jwt.PyJWK] = []
        self._read_at = float("-inf")
        self._tried_at = float("-inf")

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key with this id, for this algorithm; where a token names none, the only one for it.

        Reads the keys where they are old, or do not have it. Raises KeysUnreachable.
        """
        if self._clock() - self._read_at >= REFRESH or self._known(kid, algorithm) is None:
            async with self._lock:  # others wait for the same answer
                due = self._clock() - self._tried_at >= RETRY
                if due and (self._age >= REFRESH or self._known(kid, algorithm) is None):
                    await self._read()
        if self._age > LONGEST_KEPT:
            raise KeysUnreachable("the keys of -jwtJwksUrl cannot be read")
        return self._known(kid, algorithm)

    @property
    def _age(self) -> float:
        return self._clock() - self._read_at

    def _known(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        fitting = [
            key
            for key in self._keys
            if key.algorithm_name == algorithm and (kid is None or key.key_id == kid)
        ]
        return fitting[0] if len(fitting) == 1 or (fitting and kid is not None) else None

    async def _read(self) -> None:
        self._tried_at = self._clock()
        try:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT)
            async with self._http.get(self._url, timeout=timeout, allow_redirects=False) as response:
                if response.status != 200:
                    raise ValueError(f"status {response.status}")
                keys = read_keys(parse_json(await read_bounded(response, MAX_BYTES)))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, BodyTooLarge) as error:
            log.warning("keys of -jwtJwksUrl not read", error=str(error) or type(error).__name__)
            return
        if {key.key_id for key in keys} != {key.key_id for key in self._keys}:
            log.info("keys of -jwtJwksUrl read", keys=len(keys))
        self._keys, self._read_at = keys, self._clock()


def read_keys(document: object) -> list[jwt.PyJWK]:
    """The public keys for signatures; others are passed over. Raises ValueError."""
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise ValueError(f"it is no set of up to {MAX_KEYS} keys")
    keys = []
    for one in listed:
        if not isinstance(one, dict) or one.get("use", "sig") != "sig" or one.get("kty") == "oct":
            continue
        try:
            keys.append(jwt.PyJWK.from_dict(one))
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
    return keys
