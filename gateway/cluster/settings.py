"""What an operator says about the other nodes."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gateway.cluster.subjects import CLUSTER_NAME
from gateway.flags import BOOLEAN, LIST, PATH, TEXT, Flag, FlagError, Kind, Parsed, within

MAX_NODE_NAME = 128
MAX_CREDENTIALS = 4096
NEED_CLUSTER = ("clusterName", "nodeName", "clusterCredentials", "reusePort")


def _parse_servers(value: str) -> tuple[str, ...]:
    servers = tuple(one if "://" in one else f"nats://{one}" for one in LIST.parse(value))
    for server in servers:
        parts = urlsplit(server)
        if parts.scheme not in {"nats", "tls"} or not parts.hostname:
            raise ValueError(server)
        _ = parts.port  # raises ValueError for an invalid port
    if not servers:
        raise ValueError(value)
    return servers


SERVERS = Kind("url,..", "nats:// or tls:// URLs, comma-separated", _parse_servers)
NAME = within(
    TEXT, "1 to 32 letters, digits, '_' and '-'", lambda name: CLUSTER_NAME.fullmatch(name) is not None
)
NODE_NAME = within(
    TEXT,
    f"1 to {MAX_NODE_NAME} letters, digits, '_', '.', ':' and '-'",
    lambda name: re.fullmatch(rf"[A-Za-z0-9_.:-]{{1,{MAX_NODE_NAME}}}", name) is not None,
)

CLUSTER_FLAGS: tuple[Flag, ...] = (
    Flag("cluster", SERVERS, None, "Be a node of a cluster that meets at these NATS servers"),
    Flag(
        "clusterName", NAME, "livepeer", "Begin all subjects with this; clusters that share a NATS need two"
    ),
    Flag(
        "nodeName",
        NODE_NAME,
        None,
        "Be known by this name, the same after a restart; no two nodes may share one",
        "the host's name and the port of -httpAddr",
    ),
    Flag("clusterCredentials", PATH, None, "Read user:password, or a token, for NATS from this file"),
    Flag(
        "reusePort",
        BOOLEAN,
        "false",
        "Share the port of -httpAddr; -cliAddr and -nodeAddr are each node's own",
    ),
)


@dataclass(frozen=True)
class Credentials:
    """What NATS is told at the connect; each may be empty."""

    user: str = ""
    password: str = ""
    token: str = ""

    @classmethod
    def read(cls, path: Path) -> Credentials:
        """One line, `user:password` or a token. Raises FlagError."""
        try:
            with path.open("rb") as file:
                line = file.read(MAX_CREDENTIALS).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise FlagError(
                f"-clusterCredentials {path} cannot be read ({error}): it takes a file with user:password"
            ) from error
        if not line or "\n" in line:
            raise FlagError(
                f"-clusterCredentials {path} is refused: it takes one line, user:password or a token"
            )
        user, colon, password = line.partition(":")
        return cls(user=user, password=password) if colon else cls(token=line)


@dataclass(frozen=True)
class ClusterSettings:
    """Where nodes meet, and what this one is called."""

    servers: tuple[str, ...]
    name: str
    """The first token of each subject."""
    node_name: str
    credentials: Credentials
    reuse_port: bool

    @classmethod
    def from_parsed(cls, parsed: Parsed) -> ClusterSettings | None:
        """None without `-cluster`. Raises FlagError for flags that make no sense together."""
        if parsed["cluster"] is None:
            for name in NEED_CLUSTER:
                if name in parsed.given:
                    raise FlagError(f"-{name} needs -cluster")
            return None
        path = parsed["clusterCredentials"]
        return cls(
            servers=parsed["cluster"],
            name=parsed["clusterName"],
            node_name=parsed["nodeName"] or _default_name(parsed),
            credentials=Credentials() if path is None else Credentials.read(path),
            reuse_port=parsed["reusePort"],
        )


def _default_name(parsed: Parsed) -> str:
    _, port = parsed["httpAddr"]
    if port == 0:
        raise FlagError("-cluster with a port of -httpAddr that the system chooses needs -nodeName")
    if parsed["reusePort"]:
        raise FlagError("-reusePort needs -nodeName: nodes on one port would have the same name")
    return f"{socket.gethostname()}:{port}"
