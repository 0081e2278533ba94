"""TLS of clients, mostly for connections to orchestrators."""

from __future__ import annotations

import functools
import ssl
from typing import Any

from typing_extensions import override

RECORD = 16_384
"""Limit in bytes of one record's content (RFC 8446, 5.1), which is all that one read returns."""


class _ByRecord(ssl.SSLObject):
    """Reads into no more than a record has room for.

    uvloop asks for 256 KiB each time, which are allocated and cut down to what came: a heap full of holes,
    most of all where many connections are lost at once.
    """

    @override
    def read(self, len: int = RECORD, buffer: Any = None) -> Any:
        return super().read(min(len, RECORD), buffer)


@functools.cache
def client_context(*, verify: bool, protocol: str = "http/1.1") -> ssl.SSLContext:
    """For connections that speak `protocol` (its ALPN name).

    Orchestrators' certificates are self-signed as a rule, and trust comes from what they sign: without
    `verify` any certificate is accepted.
    """
    # without verification none of the system's certificates is read, which would take 50 ms and 1 MB
    context = ssl.create_default_context() if verify else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    context.sslobject_class = _ByRecord
    return context
