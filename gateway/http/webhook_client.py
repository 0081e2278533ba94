"""POSTs JSON to a server of the operator's and reads JSON back, bounded in time and size."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import aiohttp
from yarl import URL

from gateway.aio.bodies import BodyTooLarge, read_bounded
from gateway.aio.json_text import parse_json

TIMEOUT = 5.0
"""Seconds for a whole answer."""
MAX_ANSWER_BYTES = 1024 * 1024
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class ErrorStatus(Exception):
    """The answer's status is not 2xx."""


class WebhookClient:
    """POSTs to `url`. As in Go's client, an Authorization header replaces a password in the URL."""

    def __init__(self, http: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> None:
        self._http = http
        named = any(name.lower() == "authorization" for name in headers)
        self._url = URL(url).with_user(None) if named else URL(url)
        self._headers = headers

    async def ask(self, question: Mapping[str, Any], *, headers: Mapping[str, str] = NO_HEADERS) -> Any:
        """The answer's JSON; `headers` are for this question.

        Raises ErrorStatus, ClientError, TimeoutError or ValueError (no JSON).
        """
        async with self._http.post(
            self._url,
            json=question,
            headers={**headers, **self._headers},
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            allow_redirects=False,
            ssl=True,
        ) as response:
            if response.status // 100 != 2:
                raise ErrorStatus(f"status {response.status}")
            try:
                return parse_json(await read_bounded(response, MAX_ANSWER_BYTES))
            except BodyTooLarge:
                raise ValueError(f"it is longer than {MAX_ANSWER_BYTES} bytes") from None
            except ValueError as error:
                raise ValueError("it is not JSON") from error
