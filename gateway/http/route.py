"""One row for each thing that the gateway answers: served by aiohttp, guarded, told by /openapi.json."""

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
    """Which file of tokens opens a route, where the operator has given that file."""

    PUBLISH = "publish"
    PLAY = "play"


@dataclass(frozen=True)
class Route:
    """`path` has its variables in braces; `answers` says what each status means, errors included."""

    method: str
    path: str
    handler: Handler
    summary: str
    answers: Mapping[int, str]
    takes: str | None = None
    """The content type of the body that is taken."""
    gives: str | None = JSON
    """The content type of a successful answer; None where it has no body."""
    schema: Mapping[str, Any] | None = None
    """The JSON Schema of a successful answer, where it is more than an object."""
    plain: frozenset[int] = frozenset()
    """Statuses above 399 that are answered in the form of a success rather than as a problem."""
    token: Token | None = None
    by_id: bool = False
    """Whether {stream} may be a live stream's id, or another form of its name."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Parameters of the query that are read, each with its meaning."""
