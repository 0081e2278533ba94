"""STUN and TURN servers as an operator names them and as WHIP tells clients (RFC 9725, 4.6)."""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass, field
from urllib.parse import unquote

_SERVER = re.compile(
    r"(?P<scheme>stuns?|turns?):"
    r"(?:(?P<username>[^:@\s]+):(?P<credential>[^@\s]+)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>\d{1,5}))?"
    r"(?:\?transport=(?P<transport>udp|tcp))?"
)
CREDENTIALS_LIFE = 24 * 3600
"""Seconds for which credentials made of a secret are good; a stream has to end before, or lose its relay."""
_DEFAULT_PORTS = {"stun": 3478, "stuns": 5349, "turn": 3478, "turns": 5349}


@dataclass(frozen=True)
class IceServer:
    """One server (RFC 7064, RFC 7065) and, for TURN, the credentials that clients may use."""

    scheme: str
    host: str
    port: int
    transport: str | None = None
    username: str | None = None
    credential: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    """Shared with the TURN server, which takes credentials made with it for a while."""

    @classmethod
    def parse(cls, text: str) -> IceServer:
        """Read `stun:host:port` or `turn:user:password@host:port?transport=udp`.

        User and password may be percent-encoded. Raises ValueError for anything else.
        """
        match = _SERVER.fullmatch(text)
        if match is None:
            raise ValueError("a server is stun:host:port or turn:user:password@host:port?transport=udp")
        scheme, username, credential = match["scheme"], match["username"], match["credential"]
        port = int(match["port"] or _DEFAULT_PORTS[scheme])
        if not 0 < port < 65536:
            raise ValueError(f"{port} is no port")
        if scheme.startswith("stun") and (username is not None or match["transport"] is not None):
            raise ValueError("a STUN server takes neither user nor transport")
        for secret in (username, credential):
            if secret is not None and not (unquote(secret).isascii() and unquote(secret).isprintable()):
                raise ValueError("user and password take printable ASCII")
        return cls(
            scheme=scheme,
            host=match["host"].strip("[]"),
            port=port,
            transport=match["transport"],
            username=None if username is None else unquote(username),
            credential=None if credential is None else unquote(credential),
        )

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        transport = f"?transport={self.transport}" if self.transport else ""
        return f"{self.scheme}:{host}:{self.port}{transport}"

    @property
    def is_turn(self) -> bool:
        return self.scheme.startswith("turn")

    def credentials(self, now: float) -> tuple[str, str] | None:
        """User and password for somebody who asks at `now` (seconds of the wall clock); None without any.

        Of a secret they are made by the TURN REST convention (draft-uberti-behave-turn-rest-00, 2.2).
        """
        if self.secret is not None:
            username = f"{int(now) + CREDENTIALS_LIFE}:gateway"
            mac = hmac.digest(self.secret.encode(), username.encode(), "sha1")
            return username, base64.b64encode(mac).decode()
        if self.username is None or self.credential is None:
            return None
        return self.username, self.credential

    def link(self, now: float) -> str:
        """The value of a Link header for somebody who asks at `now`."""
        value = f'<{self.url}>; rel="ice-server"'
        if (credentials := self.credentials(now)) is not None:
            username, credential = map(_quoted, credentials)
            value += f'; username={username}; credential={credential}; credential-type="password"'
        return value


def parse_ice_servers(text: str) -> tuple[IceServer, ...]:
    """Servers, comma-separated. Raises ValueError for what is none."""
    return tuple(IceServer.parse(part.strip()) for part in text.split(",") if part.strip())


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
