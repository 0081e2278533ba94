"""Certificates that servers have shown: what verified has to verify again, others are pinned for a session.

Orchestrators' certificates are self-signed as a rule. Who takes any would not notice that somebody else
answers in the middle of a session, whose URLs and payments are worth money.
"""

from __future__ import annotations

import hashlib
import ssl
from collections import Counter, OrderedDict
from typing import TypeVar
from urllib.parse import urlsplit

REMEMBERED = 1000
"""Servers of which it is known what they have shown."""

_T = TypeVar("_T")
Server = tuple[str, int]
"""Host, in lower case, and port."""


class CertificateChanged(ssl.CertificateError):
    """A server shows another certificate than it did before. The message is a sentence."""


class CertificatePins:
    """All servers that a client connects to."""

    def __init__(self) -> None:
        self._verified: OrderedDict[Server, None] = OrderedDict()
        self._shown: OrderedDict[Server, bytes] = OrderedDict()
        """The digest of what a server showed last that did not verify."""
        self._held: Counter[Server] = Counter()

    def must_verify(self, server: Server) -> bool:
        """Whether its certificate verified once: from then on it has to."""
        return server in self._verified

    def is_pinned(self, server: Server) -> bool:
        """Whether a session goes on with a certificate of its that does not verify."""
        return self._held[server] > 0 and server in self._shown

    def verified(self, server: Server) -> None:
        self._shown.pop(server, None)
        _remember(self._verified, server, None)

    def check(self, server: Server, certificate: bytes) -> None:
        """Note what a server showed, in DER, that does not verify.

        Raises CertificateChanged where it is not the one that is pinned.
        """
        digest = hashlib.sha256(certificate).digest()
        if self.is_pinned(server) and self._shown[server] != digest:
            raise CertificateChanged(f"{server[0]} shows another certificate than when the session began")
        _remember(self._shown, server, digest)

    def session(self) -> SessionPins:
        return SessionPins(self._held)


class SessionPins:
    """The servers of one session. `release` ends it."""

    def __init__(self, held: Counter[Server]) -> None:
        self._held = held
        self._servers: set[Server] = set()

    def hold(self, *urls: str) -> None:
        """The servers of these URLs have to keep the certificates that they have shown, or show next."""
        servers = {server_of(url) for url in urls if url.startswith("https://")} - self._servers
        self._servers |= servers
        self._held.update(servers)

    def release(self) -> None:
        self._held.subtract(self._servers)
        for server in self._servers:
            if self._held[server] <= 0:
                del self._held[server]
        self._servers = set()


def server_of(url: str) -> Server:
    """Raises ValueError for a port that is none."""
    parts = urlsplit(url)
    return (parts.hostname or "").lower(), parts.port or 443


def _remember(known: OrderedDict[Server, _T], server: Server, what: _T) -> None:
    known[server] = what
    known.move_to_end(server)
    while len(known) > REMEMBERED:
        known.popitem(last=False)
