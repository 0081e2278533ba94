"""Who owned each name of a cluster, by all writes to its bucket: nobody takes one from a living node."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import nats
from nats.js.api import StorageType, StreamConfig, StreamSource

from gateway.cluster.subjects import Subjects, decode

HISTORY = "chaos-history"
EXPECTED = "Nats-Expected-Last-Subject-Sequence"
"""Header of a write: the revision that it replaces; 0 where there is to be none."""
HALTED_FOR = 10**9
"""Nanoseconds for which a node must have been halted at least before its names may be taken."""
AWAKE_FOR = 10**9
"""Nanoseconds since it goes on in which a name may still be taken, by who had judged it before."""
QUIET = 1.0
"""Seconds without another entry after which all are read."""


@dataclass(frozen=True)
class Written:
    """One write of a name's key."""

    name: str
    revision: int
    replaces: int
    node: str
    incarnation: str
    left: bool
    at: int
    """By the wall clock, in nanoseconds, as is all time here."""


@dataclass
class Gap:
    """A time in which a node did nothing: it was halted, or its run was over."""

    node: str
    began: int
    over: bool
    """Whether the run ended there."""
    ended: int | None = None


def taken_over(history: Iterable[Written]) -> list[tuple[Written, Written]]:
    """Each write of a node over the key of another node, or of another run of it, with that key."""
    found = []
    last: dict[str, Written] = {}
    for now in history:
        former = last.get(now.name)
        last[now.name] = now
        if former is None or former.left or now.replaces != former.revision:
            continue  # it was free
        if (former.node, former.incarnation) != (now.node, now.incarnation):
            found.append((former, now))
    return found


def taken_from_the_living(history: Iterable[Written], gaps: Iterable[Gap]) -> list[str]:
    """Each time that a node took a name which another one's run held that went on: a sentence."""
    gaps = list(gaps)
    return [
        f"{now.node} took {now.name!r} from {former.node}, which lived"
        for former, now in taken_over(history)
        if not any(_excuses(gap, former, now.at) for gap in gaps)
    ]


def _excuses(gap: Gap, former: Written, taken: int) -> bool:
    if gap.node != former.node or gap.began > taken:
        return False
    if gap.over:
        return gap.began > former.at
    return taken - gap.began >= HALTED_FOR and (gap.ended is None or taken - gap.ended <= AWAKE_FOR)


async def keep_history(url: str, cluster: str) -> None:
    """Have NATS copy all that is written to the names' bucket, which itself keeps the newest only."""
    client = await nats.connect(url)
    source = f"KV_{Subjects(cluster).names_bucket}"
    config = StreamConfig(name=HISTORY, mirror=StreamSource(name=source), storage=StorageType.FILE)
    await client.jetstream().add_stream(config)
    await client.close()


async def read_history(url: str, cluster: str) -> list[Written]:
    """All that was written since, the oldest first."""
    client = await nats.connect(url)
    subject = f"$KV.{Subjects(cluster).names_bucket}."
    reader = await client.jetstream().subscribe(f"{subject}>", stream=HISTORY, ordered_consumer=True)
    found = []
    while True:
        try:
            message = await reader.next_msg(timeout=QUIET)
        except (TimeoutError, nats.errors.TimeoutError):
            break
        members, metadata = json.loads(message.data), message.metadata
        found.append(
            Written(
                decode(message.subject.removeprefix(subject)),
                metadata.sequence.stream,
                int((message.headers or {}).get(EXPECTED, 0)),
                members["node"],
                members["incarnation"],
                left=bool(members.get("left")),
                at=int(metadata.timestamp.timestamp() * 1e9),
            )
        )
    await client.close()
    return found
