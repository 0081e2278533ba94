"""One row for each route: served by aiohttp, guarded by its token, described by /openapi.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aiohttp.typedefs import Handler

JSON = "application/json"
SDP = "application/sdp"
SDP_FRAGMENT = "application/trickle-ice-sdpfrag"


class Token(StrEnum):
    """The kind of token that a route asks for, where the operator has given a file of that kind."""

    PUBLISH = "publish"
    PLAY = "play"
    API = "api"


@dataclass(frozen=True)
class Route:
    """`path` has variables in braces; `answers` gives the meaning of each status, errors included."""

    method: str
    path: str
    handler: Handler
    summary: str
    answers: Mapping[int, str]
    takes: str | None = None
    """The content type of the request's body."""
    gives: str | None = JSON
    """The content type of a successful answer; None where it has no body."""
    schema: Mapping[str, Any] | None = None
    """The JSON Schema of a successful answer, where it is more than an object."""
    plain: frozenset[int] = frozenset()
    """Error statuses whose answer has the form of a success, not of a problem."""
    token: Token | None = None
    by_id: bool = False
    """Whether {stream} may also be a live stream's id or another form of its name."""
    query: Mapping[str, str] = field(default_factory=dict)
    """The query's parameters, with their meanings."""
