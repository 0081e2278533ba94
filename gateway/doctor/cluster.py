"""Findings on NATS: whether nodes could meet there, and whether its account allows what they need."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress

from gateway.cluster.beats import KEEP_KEY
from gateway.cluster.bucket import Bucket
from gateway.cluster.bus import Bus, BusMessage
from gateway.cluster.errors import ClusterError
from gateway.cluster.settings import ClusterSettings
from gateway.cluster.subjects import Subjects, decode, encode
from gateway.doctor.finding import Finding, Level
from gateway.flags import without_userinfo

PART = "NATS"
CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 2.0
POLL = 0.05
PERMISSIONS = "see what the account has to allow in docs/cluster.md"


async def cluster_findings(settings: ClusterSettings, wait: float = CONNECT_TIMEOUT) -> list[Finding]:
    """Connect as a node would, ask and answer, and write and remove a key of each bucket.

    A connection may take `wait` seconds. The buckets are made where they are missing, as the first node does.
    """
    servers = ",".join(without_userinfo(server) for server in settings.servers)
    async with Bus(
        settings.servers, Subjects(settings.name), name="doctor", credentials=settings.credentials
    ) as bus:
        if not await _connected(bus, wait):
            why = bus.problem or "it does not answer"
            advice = "start it, or correct -cluster and -clusterCredentials"
            return [Finding(PART, Level.FAULT, f"{servers} cannot be used: {why}", advice)]
        findings = [await _messages(bus, servers)]
        nodes = Bucket(bus, bus.subjects.nodes_bucket, ttl=KEEP_KEY, in_memory=True)
        names = Bucket(bus, bus.subjects.names_bucket)
        counts = Bucket(bus, bus.subjects.counts_bucket)
        for bucket, what in ((nodes, "nodes"), (names, "names"), (counts, "counts")):
            findings.append(await _writes(bus, bucket, what))
        if all(finding.level is Level.OK for finding in findings):
            findings.append(await _others(nodes, settings.node_name))
        return findings


async def _connected(bus: Bus, wait: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(wait):
            while not bus.connected:  # noqa: ASYNC110 (it has no event for this)
                await asyncio.sleep(POLL)
    return bus.connected


async def _messages(bus: Bus, servers: str) -> Finding:
    """Whether a request on a node's subject comes in, and its answer."""
    answers: set[asyncio.Task[None]] = set()

    def answer(message: BusMessage) -> None:
        answers.add(asyncio.get_running_loop().create_task(bus.answer(message.reply, b"here")))

    subject = bus.subjects.node(f"doctor-{secrets.token_hex(4)}")
    subscription = await bus.subscribe(subject, answer)
    began = time.monotonic()
    try:
        await bus.flush()
        await bus.ask(subject, timeout=ANSWER_TIMEOUT)
    except ClusterError as error:
        why = f"{servers} takes no requests below {bus.subjects.cluster!r}: {_why(bus, error)}"
        return Finding(PART, Level.FAULT, why, PERMISSIONS, name="messages")
    finally:
        await subscription.close()
        await asyncio.gather(*answers, return_exceptions=True)
    took = 1000 * (time.monotonic() - began)
    detail = f"{servers} carries a request and its answer in {took:.0f} ms"
    return Finding(PART, Level.OK, detail, name="messages", figures={"rtt_ms": round(took, 1)})


async def _writes(bus: Bus, bucket: Bucket, what: str) -> Finding:
    """Whether a key can be created, read and removed."""
    key = encode(f"doctor-{secrets.token_hex(8)}")
    try:
        revision = await bucket.create(key, b"")
        found = await bucket.get(key)
        removed = await bucket.remove(revision)
    except ClusterError as error:
        advice = f"turn JetStream on (nats-server --jetstream); {PERMISSIONS}"
        return Finding(
            PART, Level.FAULT, f"keys of {what} cannot be kept: {_why(bus, error)}", advice, name=what
        )
    if found is None or not removed:
        why = (
            f"a key of {what} was written and is not there: other programs use the bucket, or it has no room"
        )
        return Finding(PART, Level.FAULT, why, "give each cluster a -clusterName of its own", name=what)
    return Finding(PART, Level.OK, f"keys of {what} can be written, read and removed", name=what)


async def _others(nodes: Bucket, own: str) -> Finding:
    """Which nodes are there, and whether one has this one's name."""
    present = sorted(decode(key) for key in await nodes.keys())
    said = ", ".join(present) if present else "none yet"
    if own in present:
        advice = "fine where that is the gateway which runs; else give this one another -nodeName"
        detail = f"a node with this -nodeName, {own!r}, is there already (all: {said})"
        return Finding(PART, Level.WARNING, detail, advice, name="nodes present")
    return Finding(PART, Level.OK, said, name="nodes present", figures={"nodes": len(present)})


def _why(bus: Bus, error: ClusterError) -> str:
    """NATS says asynchronously what it does not allow."""
    return f"{error} ({bus.problem})" if bus.problem else str(error)
