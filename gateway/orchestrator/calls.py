"""HTTP calls to orchestrators: every failure becomes an OrchestratorError."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

import aiohttp

from gateway.aio.bodies import BodyTooLarge, read_bounded
from gateway.aio.certificate_pins import CertificateChanged
from gateway.aio.http_client import UnwantedEncoding
from gateway.aio.inside import Ip, LeadsInside, literal
from gateway.orchestrator.errors import (
    AlreadySeen,
    BadAnswer,
    OrchestratorError,
    Refused,
    UnknownOutcome,
    Unreachable,
)

MAX_BODY = 1024 * 1024
"""The largest HTTP answer read, in bytes."""
MAX_SAID = 200
"""Limit of characters of an orchestrator's error text that are kept."""
CONNECT_SHARE = 0.6
"""Part of a call's time-out for connecting: a later time-out means "unknown", not "not sent"."""
SEEN = b"already seen"


def printable(words: str) -> str:
    """Words of others, as much as is shown of them."""
    return "".join(c if c.isprintable() else " " for c in words[: 4 * MAX_SAID]).strip()[:MAX_SAID]


class HttpAnswer:
    """An HTTP answer; maps statuses to errors."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body

    def accepted(self) -> bytes:
        """The body of a 200; otherwise raises the error for the status."""
        if self.status == 200:
            return self.body
        raise self.failure()

    def failure(self) -> OrchestratorError:
        """What a status other than 200 means."""
        if self.status == 400 and SEEN in self.body:
            return AlreadySeen(self.detail, said=self.said)
        if self.status >= 500:
            return UnknownOutcome(self.detail, said=self.said)
        return Refused(self.status, self.detail, said=self.said)

    @property
    def detail(self) -> str:
        return f"HTTP {self.status}"

    @property
    def said(self) -> str:
        return printable(self.body[: 4 * MAX_SAID].decode("utf-8", "replace"))


async def call(
    http: aiohttp.ClientSession,
    method: str,
    url: str,
    timeout: float,
    *,
    connect: float | None = None,
    headers: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
    secret: bool = False,
) -> tuple[int, bytes]:
    """Status and body of an answer, whose redirects are not followed.

    `connect` is the time limit for connecting, by default its share of `timeout`. A `secret` URL stands in no
    error. Raises Unreachable, UnknownOutcome or BadAnswer.
    """
    limits = aiohttp.ClientTimeout(total=timeout, sock_connect=connect or timeout * CONNECT_SHARE)
    try:
        async with http.request(
            method,
            url,
            headers=headers,
            json=body,
            data=b"" if body is None and method == "POST" else None,
            timeout=limits,
            allow_redirects=False,
        ) as response:
            return response.status, await read_bounded(response, MAX_BODY)
    except BodyTooLarge:
        raise BadAnswer(f"its answer is over the limit of {MAX_BODY} bytes") from None
    except UnwantedEncoding as error:
        raise BadAnswer(str(error)) from error
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
        raise Unreachable(f"no connection: {_without_url(error) if secret else error}") from error
    except TimeoutError as error:
        raise UnknownOutcome(f"no answer within {timeout:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise UnknownOutcome(f"the connection was lost: {type(error).__name__}") from error


def payment_headers(payment: str, seg_creds: str) -> dict[str, str]:
    return {"Livepeer-Payment": payment, "Livepeer-Segment": seg_creds}


async def addresses(name: str) -> list[Ip]:
    """The IP addresses of a host. Raises BadAnswer where it cannot be resolved."""
    given_ip = literal(name)
    if given_ip is not None:
        return [given_ip]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BadAnswer(f"{name} cannot be resolved") from error
    return [ip for *_, where in found if (ip := literal(str(where[0]).partition("%")[0])) is not None]


def _without_url(error: Exception) -> str:
    cause = error.__cause__
    return str(cause) if isinstance(cause, LeadsInside | CertificateChanged) else type(error).__name__
