"""What go-livepeer 0.9 and livepeer/node 1.0 do differently where both serve live runners."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

MAX_NODE_SEGMENT = 10_000_000
"""Limit in bytes of a trickle segment on a node."""
MAX_GO_SEGMENT = 32_000_000
NO_SWEEP = 10.0**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Times in seconds, sizes in bytes."""

    name: str
    tls: bool
    """Whether the listener has a self-signed certificate; a node's is plain HTTP."""
    debit_interval: float
    heartbeat_ttl: float
    """How long a runner stays ready without a heartbeat."""
    session_id: Callable[[], str]
    channel_name: Callable[[str, str], str]
    """The name of a channel, from session id and the name that the app wants."""
    bad_token_status: int
    """For an app's call with a wrong session token."""
    rounds_up: bool
    """Whether a price in USD is rounded up to whole wei, else down."""
    lists_full: bool
    """Whether discovery lists runners without a free slot."""
    units: tuple[str, ...]
    """What a runner may be priced by."""
    max_segment: int
    sweep_after: float
    """Seconds without a segment after which a trickle channel is closed."""
    max_streams: int | None
    """Trickle requests and proxied ones at once; None: no limit."""
    max_control_calls: int | None


GO = Dialect(
    name="go",
    tls=True,
    debit_interval=5.0,
    heartbeat_ttl=20.0,
    session_id=lambda: secrets.token_hex(4),
    channel_name=lambda session, name: f"{session}-{name}",
    bad_token_status=401,
    rounds_up=False,
    lists_full=True,
    units=("hour", "720p", "fixed"),
    max_segment=MAX_GO_SEGMENT,
    sweep_after=300.0,
    max_streams=None,
    max_control_calls=None,
)
NODE = Dialect(
    name="node",
    tls=False,
    debit_interval=1.0,
    heartbeat_ttl=30.0,
    session_id=lambda: f"session_{secrets.token_hex(8)}",
    channel_name=lambda _, name: f"channel_{secrets.token_hex(8)}-{name}",
    bad_token_status=403,
    rounds_up=True,
    lists_full=False,
    units=("hour", "fixed"),
    max_segment=MAX_NODE_SEGMENT,
    sweep_after=NO_SWEEP,
    max_streams=256,
    max_control_calls=64,
)
DIALECTS = {dialect.name: dialect for dialect in (GO, NODE)}
