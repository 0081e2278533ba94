"""Signatures of webhooks after Standard Webhooks 1.0 (standardwebhooks.com)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64


def parse_secret(text: str) -> bytes:
    """The key in `whsec_..`. Raises ValueError."""
    if not text.startswith(PREFIX):
        raise ValueError(f"a secret begins with {PREFIX}")
    key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    if not LEAST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError(f"a secret has {LEAST_BYTES} to {MOST_BYTES} bytes")
    return key


def signed_headers(event_id: str, timestamp: int, body: str, keys: Sequence[bytes]) -> dict[str, str]:
    """The headers of a delivery at `timestamp` (Unix seconds), with a signature by each key."""
    content = f"{event_id}.{timestamp}.{body}".encode()
    signatures = (base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{one}" for one in signatures),
    }
