"""What goes wrong between nodes. nats-py's own errors are translated into these in bus.py and bucket.py."""

from __future__ import annotations


class ClusterError(Exception):
    """A message did not get through, or a key could not be changed; the text says why, for people."""


class ClusterAway(ClusterError):
    """NATS cannot be reached, or does not answer: nothing is known of the other nodes."""


class NobodyAnswers(ClusterError):
    """NATS says that nobody subscribes to the subject of a request."""


class NoAnswerInTime(ClusterError):
    """Somebody subscribes to the subject of a request, but its answer did not come whole in time.

    `taken`: whether it said that the request came in.
    """

    def __init__(self, detail: str, *, taken: bool = False) -> None:
        super().__init__(detail)
        self.taken = taken


class MessageTooLarge(ClusterError):
    """A message, or an answer of many pieces, is larger than is sent or taken."""


class Backlogged(ClusterError):
    """So much waits to be sent to NATS that nothing more is added; the message was dropped."""


class KeyTaken(ClusterError):
    """A key of a bucket was created or changed by somebody else meanwhile."""
