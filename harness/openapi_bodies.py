"""Bodies that schemathesis cannot make up by itself; it imports this module by SCHEMATHESIS_HOOKS."""

from __future__ import annotations

from pathlib import Path

import schemathesis
from hypothesis import strategies as st

OFFERS = [
    path.read_text()
    for path in sorted((Path(__file__).parents[1] / "tests" / "data" / "offers").glob("*.sdp"))
]
FRAGMENTS = ["a=ice-ufrag:x\r\na=ice-pwd:y\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n"]


def _bodies(real: list[str]) -> st.SearchStrategy[bytes]:
    """Real ones, real ones that lost a line, and anything at all."""

    def without_a_line(text: str) -> st.SearchStrategy[str]:
        lines = text.splitlines(keepends=True)
        return st.integers(0, len(lines) - 1).map(lambda gone: "".join(lines[:gone] + lines[gone + 1 :]))

    whole = st.sampled_from(real)
    return st.one_of(whole.map(str.encode), whole.flatmap(without_a_line).map(str.encode), st.binary())


schemathesis.openapi.media_type("application/sdp", _bodies(OFFERS))
schemathesis.openapi.media_type("application/trickle-ice-sdpfrag", _bodies(FRAGMENTS))
