"""What it costs that nodes count their spend limits together: payments of several nodes on one PostgreSQL.

Each node is a process with sessions that pay one after the other, four lines a payment. With limits, each
question and each signing waits for its turn among all nodes.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger import Ledger, SessionRecord
from gateway.payments.payment import Payment
from gateway.payments.shared_limits import HoldRequest
from gateway.payments.spending import PublisherBudget, SpendLimits
from harness.payment_models import PRICE, SENDER_TEXT, orchestrator_info, signed_payment
from harness.postgresql import postgresql_server

MUCH = 10**30
"""A limit in wei that is never reached."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    nodes: tuple[int, ...] = (1, 2, 4)
    sessions: int = 20
    """Of each node."""
    seconds: float = 6.0


FULL = Plan()


async def measure(folder: Path, plan: Plan = FULL) -> AsyncIterator[dict[str, Any]]:
    with postgresql_server() as server:
        for limits in ("none", "hour", "all"):
            for nodes in plan.nodes:
                where = server.database()
                await (await Ledger.open(where, node="first")).close()
                rows = await asyncio.gather(
                    *(_node(where, f"n{index}", limits, plan) for index in range(nodes))
                )
                asked = [delay for row in rows for delay in row["asked_ms"]]
                yield {
                    "nodes": nodes,
                    "sessions": nodes * plan.sessions,
                    "limits": limits,
                    "payments_per_s": round(sum(row["payments"] for row in rows) / plan.seconds),
                    "asked_ms_p50": round(statistics.median(asked), 1),
                    "asked_ms_p99": round(statistics.quantiles(asked, n=100)[-1], 1),
                }


async def _node(where: str, name: str, limits: str, plan: Plan) -> dict[str, Any]:
    arguments = (where, name, limits, str(plan.sessions), str(plan.seconds))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.counting", *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return dict(json.loads(out))


async def pay(where: str, name: str, limits: str, sessions: int, seconds: float) -> dict[str, Any]:
    """One node: what its sessions paid in so many seconds, and how long each question took."""
    ledger = await Ledger.open(where, node=name)
    asked: list[float] = []
    made = Payment.read(signed_payment(orchestrator_info(rand=1), 1, 1))
    try:
        until = time.monotonic() + seconds
        paid = await asyncio.gather(
            *(_session(ledger, f"{name}-{index}", limits, made, until, asked) for index in range(sessions))
        )
    finally:
        await ledger.close()
    return {"payments": sum(paid), "asked_ms": asked}


async def _session(
    ledger: Ledger, name: str, limits: str, made: Payment, until: float, asked: list[float]
) -> int:
    job = JobIdentity(stream=name, stream_id=name, request_id=name, addr="127.0.0.1:8935")
    session = await ledger.open_session(
        SessionRecord(
            job=job,
            sender=SENDER_TEXT,
            orchestrator_address="0xAA",
            orchestrator_url="https://127.0.0.1:8935",
            price=Fraction(PRICE),
            ceiling=Fraction(PRICE),
            interval_ns=5 * 10**9,
            publisher=name,
        )
    )
    request = _request(name, limits, made)
    number = 0
    while time.monotonic() < until:
        number += 1
        begun = time.monotonic()
        await ledger.intended(session, number, request)
        asked.append((time.monotonic() - begun) * 1000)
        await ledger.signed(session, number, made, manifest_id="", price=Fraction(PRICE), request=request)
        await ledger.delivered(session, number)
        await ledger.credited(session, number)
    return number


def _request(name: str, limits: str, made: Payment) -> HoldRequest | None:
    if limits == "none":
        return None
    everything = MUCH if limits == "all" else None
    budget = PublisherBudget(name, everything, everything, None)
    return HoldRequest(made.value, name, budget, SpendLimits(hour=MUCH, day=everything))


if __name__ == "__main__":
    where, name, limits = sys.argv[1:4]
    print(json.dumps(asyncio.run(pay(where, name, limits, int(sys.argv[4]), float(sys.argv[5])))))
