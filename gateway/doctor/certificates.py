"""Whether servers' certificates verify, which most orchestrators' do not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from urllib.parse import urlsplit

TIMEOUT = 3.0


async def verified(urls: Iterable[str]) -> dict[str, bool]:
    """Whether the certificate of each https URL verifies by the system's authorities; none that is away."""
    asked = sorted({url for url in urls if url.startswith("https://")})
    answers = await asyncio.gather(*(_verifies(url) for url in asked))
    return {url: answer for url, answer in zip(asked, answers, strict=True) if answer is not None}


async def _verifies(url: str) -> bool | None:
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(TIMEOUT):
            _, writer = await asyncio.open_connection(
                parts.hostname, parts.port or 443, ssl=ssl.create_default_context()
            )
    except ssl.SSLCertVerificationError:
        return False
    except (OSError, TimeoutError):
        return None
    writer.transport.abort()
    return True
