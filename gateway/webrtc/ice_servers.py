"""STUN and TURN servers as an operator names them and as WHIP tells clients (RFC 9725, 4.6)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

_SERVER = re.compile(
    r"(?P<scheme>stuns?|turns?):"
    r"(?:(?P<username>[^:@\s]+):(?P<credential>[^@\s]+)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>\d{1,5}))?"
    r"(?:\?transport=(?P<transport>udp|tcp))?"
)
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

    @classmethod
    def parse(cls, text: str) -> IceServer:
        """Read `stun:host:port` or `turn:user:password@host:port?transport=udp`.

        User and password may be percent-encoded. Raises ValueError for anything else, and for a TURN
        server without them.
        """
        match = _SERVER.fullmatch(text)
        if match is None:
            raise ValueError("a server is stun:host:port or turn:user:password@host:port?transport=udp")
        scheme, username, credential = match["scheme"], match["username"], match["credential"]
        port = int(match["port"] or _DEFAULT_PORTS[scheme])
        if not 0 < port < 65536:
            raise ValueError(f"{port} is no port")
        if scheme.startswith("turn") and username is None:
            raise ValueError("a TURN server needs user:password@ before its host")
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
    def link(self) -> str:
        """The value of a Link header."""
        value = f'<{self.url}>; rel="ice-server"'
        if self.username is not None and self.credential is not None:
            username, credential = _quoted(self.username), _quoted(self.credential)
            value += f'; username={username}; credential={credential}; credential-type="password"'
        return value


def parse_ice_servers(text: str) -> tuple[IceServer, ...]:
    """Servers, comma-separated. Raises ValueError for what is none."""
    return tuple(IceServer.parse(part.strip()) for part in text.split(",") if part.strip())


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
