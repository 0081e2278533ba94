"""Offers of browsers and the header that goes with them, for tests that open sessions by hand."""

from __future__ import annotations

from pathlib import Path

_OFFERS = Path(__file__).parents[1] / "data" / "offers"

PUBLISH = (_OFFERS / "chromium-camera-sendonly.sdp").read_text()
WATCH = (_OFFERS / "chromium-recvonly-hidden-addresses.sdp").read_text()
SDP = {"Content-Type": "application/sdp"}
