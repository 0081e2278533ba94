"""NATS subjects and keys, all below `-clusterName`, so that two clusters may share a NATS.

livepeer.stream.<name>      requests to the node that owns the stream with this name
livepeer.id.<stream id>     the same, by the stream's id
livepeer.ended.<name>       requests to the node where a stream of this name or id ended last
livepeer.node.<tag>         requests to one node
livepeer.inbox.<random>     answers
livepeer.media.<name>.>     media of a stream for nodes with viewers
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

CLUSTER_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
TAG_DIGITS = 12
"""Hex digits of a node's tag: two of a thousand nodes have the same one with a probability of 2e-9."""

_PLAIN = re.compile(r"[A-Za-z0-9_-]")
_ENCODED = re.compile(r"(?:[A-Za-z0-9_-]|=[0-9A-F]{2})+")


def encode(name: str) -> str:
    """One token of a subject for any text but the empty one.

    Each byte of its UTF-8 that a token may not have is `=` and two hex digits there. Raises ValueError.
    """
    if not name:
        raise ValueError("an empty name has no subject")
    return "".join(
        chr(byte) if _PLAIN.fullmatch(chr(byte)) else f"={byte:02X}" for byte in name.encode("utf-8")
    )


def decode(token: str) -> str:
    """The text that `encode` made a token of. Raises ValueError."""
    if not _ENCODED.fullmatch(token):
        raise ValueError(f"{token[:100]!r} is no encoded name")
    plain, *rest = token.split("=")
    data = plain.encode() + b"".join(bytes.fromhex(part[:2]) + part[2:].encode() for part in rest)
    text = data.decode("utf-8")
    if encode(text) != token:
        raise ValueError(f"{token[:100]!r} is encoded in another way")
    return text


def node_tag(node: str) -> str:
    """Stands for a node's name in subjects and in viewers' session ids; always the same for one name."""
    return hashlib.sha256(node.encode()).hexdigest()[:TAG_DIGITS]


@dataclass(frozen=True)
class Subjects:
    """The subjects and buckets of one cluster."""

    cluster: str

    def __post_init__(self) -> None:
        if not CLUSTER_NAME.fullmatch(self.cluster):
            raise ValueError(f"{self.cluster!r} is no name of a cluster")

    def stream(self, name: str) -> str:
        return f"{self.cluster}.stream.{encode(name)}"

    def stream_id(self, stream_id: str) -> str:
        return f"{self.cluster}.id.{encode(stream_id)}"

    def ended(self, name: str) -> str:
        return f"{self.cluster}.ended.{encode(name)}"

    def node(self, tag: str) -> str:
        return f"{self.cluster}.node.{encode(tag)}"

    def frames(self, name: str) -> str:
        """Where the owner of a stream sends its output."""
        return f"{self.cluster}.media.{encode(name)}.frames"

    def ask_for_frames(self, name: str) -> str:
        """Where nodes ask the owner of a stream for its output."""
        return f"{self.cluster}.media.{encode(name)}.ask"

    def events(self, name: str) -> str:
        """Where the owner of a stream sends its events."""
        return f"{self.cluster}.events.{encode(name)}"

    def inbox(self, token: str) -> str:
        return f"{self.cluster}.inbox.{token}"

    @property
    def nodes_bucket(self) -> str:
        """Presence: a key for each node."""
        return f"{self.cluster}-nodes"

    @property
    def names_bucket(self) -> str:
        """Ownership: a key for each name and each stream id."""
        return f"{self.cluster}-names"

    @property
    def counts_bucket(self) -> str:
        """What all nodes have together under a limit: a key for each limit and what it is of."""
        return f"{self.cluster}-counts"
