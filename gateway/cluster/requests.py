"""HTTP requests and answers as messages between nodes: a line of JSON, then the body."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

FORMAT = 1
MAX_HEAD = 256 * 1024
MAX_REFUSAL = 4096
TAKES_NOBODY = ("draining", "overloaded", "no_udp_port")
"""Codes of refusals that concern one node."""
METHODS = frozenset({"GET", "POST", "PATCH", "DELETE"})


class BadNodeMessage(ValueError):
    """A message that is no request or answer, or one of a release that is not understood."""


@dataclass(frozen=True)
class ForwardedRequest:
    """A client's request, as the node that got it sends it on."""

    method: str
    target: str
    """Path and query, as they came."""
    headers: tuple[tuple[str, str], ...]
    body: bytes
    client: str
    """The client's address, as the node that got the request sees it."""
    scheme: str
    host: str
    """Of the URL that the client asked for."""
    prefix: str = ""
    """What a proxy took off the path."""

    def encode(self) -> bytes:
        head = {
            "v": FORMAT,
            "method": self.method,
            "target": self.target,
            "headers": self.headers,
            "client": self.client,
            "scheme": self.scheme,
            "host": self.host,
            "prefix": self.prefix,
        }
        return _join(head, self.body)

    @classmethod
    def decode(cls, data: bytes) -> ForwardedRequest:
        """Raises BadNodeMessage."""
        head, body = _split(data)
        try:
            request = cls(
                method=_text(head["method"]),
                target=_text(head["target"]),
                headers=_pairs(head["headers"]),
                body=body,
                client=_text(head["client"]),
                scheme=_text(head["scheme"]),
                host=_text(head["host"]),
                prefix=_text(head["prefix"]),
            )
        except KeyError as error:
            raise BadNodeMessage(f"a request without {error}") from None
        if request.method not in METHODS or not request.target.startswith("/"):
            raise BadNodeMessage(f"a request {request.method[:20]!r} for {request.target[:100]!r}")
        return request


@dataclass(frozen=True)
class ForwardedAnswer:
    """The owner's answer to a client's request."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def takes_nobody(self) -> bool:
        """Whether the node refuses everybody now, so that another one may take the publisher."""
        if self.status != 503 or len(self.body) > MAX_REFUSAL:
            return False
        try:
            refusal = json.loads(self.body)
        except ValueError:
            return False
        return isinstance(refusal, dict) and refusal.get("code") in TAKES_NOBODY

    def encode(self) -> bytes:
        return _join({"v": FORMAT, "status": self.status, "headers": self.headers}, self.body)

    @classmethod
    def decode(cls, data: bytes) -> ForwardedAnswer:
        """Raises BadNodeMessage."""
        head, body = _split(data)
        status = head.get("status")
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise BadNodeMessage(f"an answer with status {str(status)[:20]}")
        return cls(status, _pairs(head.get("headers")), body)


def _join(head: dict[str, Any], body: bytes) -> bytes:
    return json.dumps(head).encode() + b"\n" + body


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    end = data.find(b"\n", 0, MAX_HEAD)
    if end < 0:
        raise BadNodeMessage("a message without a head")
    try:
        head = json.loads(data[:end])
    except (ValueError, RecursionError):
        raise BadNodeMessage("a message whose head is not JSON") from None
    if not isinstance(head, dict) or head.get("v") != FORMAT:
        raise BadNodeMessage("a message of another release")
    return head, data[end + 1 :]


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\r" in value or "\n" in value:
        raise BadNodeMessage(f"{str(value)[:100]!r} is no text of one line")
    return value


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise BadNodeMessage("headers that are no list of pairs")
    return tuple((_text(name), _text(content)) for name, content in value)
