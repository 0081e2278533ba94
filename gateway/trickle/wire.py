"""Names and numbers of the trickle protocol: HTTP publish and subscribe in numbered segments.

A channel is a URL; segment n of it is `channel/n`. A POST streams a segment in while it is made, a GET
streams it out as it is written.
"""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

SEQ = "Lp-Trickle-Seq"
"""On the answer to a GET: the number of the segment that follows."""
LATEST = "Lp-Trickle-Latest"
"""The number of the next segment to be written."""
CLOSED = "Lp-Trickle-Closed"
"""With the value `terminated`: the channel ended while the request was in flight."""
RESET = "Lp-Trickle-Reset"
"""On a POST: the publisher restarted, so earlier segments have ended."""
TERMINATED = "terminated"

NO_SUCH_SEGMENT = 470
"""Status: the channel exists, that segment does not; LATEST says where to go."""

NEXT = -1
"""GET: the next segment to be written."""
NEWEST = -2
"""GET: the segment started last."""

ASK_ANEW = 20.0
"""Seconds after which a GET without an answer is cancelled and sent again."""
CONNECT_TIMEOUT = 5.0
"""Seconds for one TCP connection and TLS handshake."""

NO_TOTAL_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=None)
"""For requests that take as long as a segment is written or waited for."""


def header_number(headers: Mapping[str, str], name: str) -> int | None:
    """A header's value where it is a non-negative number, else None."""
    text = headers.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
