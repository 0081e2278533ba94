"""What a live runner costs by the rhythm of payments, and how many payment sessions one gateway holds.

The first is `rhythms.py`'s. For the second there are real payers, the real HTTP clients and a real ledger on
disk; signer and orchestrator are models of the tests' in a process of their own. Sessions are added in steps
until the event loop is late by more than the aim, or payments fall behind. Then the signer answers slowly,
and the loop must not feel it.
"""

from __future__ import annotations

import asyncio
import base64
import resource
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from benchmarks import rhythms
from gateway.aio import tasks
from gateway.aio.inside import LOOPBACK, Reach
from gateway.orchestrator.client import OrchestratorClient
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.livepeer_pb2 import PaymentResult
from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger import Ledger
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.spending import Spending, SpendLimits
from gateway.reason import EndReason
from harness.payment_models import PRICE, SENDER_TEXT, OrchestratorModel, SignerModel, Status
from harness.serving import serving
from signer_client import LivePayment, SignerClient, SignerState

INTERVAL = 10**9
AIM_MS = 50.0
SAMPLE = 0.01
MAX_FIELD_SIZE = 64 * 1024


@dataclass(frozen=True)
class Plan:
    steps: Sequence[int] = (25, 50, 100, 200, 400, 800)
    """Sessions."""
    seconds: float = 5.0
    """Of each step."""
    slow_signer: float = 2.0
    """Seconds that a call to the signer takes at the end."""
    signing_calls: int = 64
    """How many there may be at once."""


FULL = Plan()


class Counterparts:
    """Signer and orchestrator over HTTP, by the tests' models."""

    def __init__(self) -> None:
        self.signer, self.orchestrator = SignerModel(), OrchestratorModel()
        self.url = ""
        self.delay = 0.0
        self.in_flight = 0
        self.most_in_flight = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/generate-live-payment", self.sign)
        app.router.add_post("/payment", self.pay)
        app.router.add_get("/info", self.info)
        app.router.add_post("/delay", self.set_delay)
        return app

    def fresh(self, info: OrchestratorInfo) -> bytes:
        info.message.transcoder = self.url
        return bytes(info.message.SerializeToString())

    async def info(self, _: web.Request) -> web.Response:
        return web.Response(body=self.fresh(self.orchestrator.fresh_info()))

    async def set_delay(self, request: web.Request) -> web.Response:
        self.delay, most, self.most_in_flight = float(await request.text()), self.most_in_flight, 0
        return web.json_response({"most_in_flight": most})

    async def sign(self, request: web.Request) -> web.Response:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            asked = await request.json()
            await asyncio.sleep(self.delay)
            info = OrchestratorInfo.parse(base64.b64decode(asked["orchestrator"]))
            given = asked.get("state")
            state = SignerState(given["State"], given["Sig"]) if given else None
            try:
                live = self.signer.sign(info, state, Fraction(time.monotonic_ns(), 10**9))
            except Status as status:
                return web.json_response({"error": {"message": ""}}, status=status.status)
            new = {"State": live.state.state, "Sig": live.state.signature}
            return web.json_response({"payment": live.payment, "segCreds": live.seg_creds, "state": new})
        finally:
            self.in_flight -= 1

    async def pay(self, request: web.Request) -> web.Response:
        live = LivePayment(request.headers["Livepeer-Payment"], "", SignerState("", ""))
        info = self.orchestrator.accept(live)
        if info is None:
            return web.Response(status=400, text="invalid ticket senderNonce: already seen")
        return web.Response(body=PaymentResult(info=self.fresh(info)).SerializeToString())


async def serve() -> None:
    """The counterparts' process: prints its URL, ends with its stdin."""
    counterparts = Counterparts()
    async with serving(app=counterparts.app(), max_field_size=MAX_FIELD_SIZE) as counterparts.url:
        print(counterparts.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


@asynccontextmanager
async def counterparts() -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.payments",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


HERE = Reach("127.0.0.1", LOOPBACK)


@dataclass
class Bench:
    url: str
    http: aiohttp.ClientSession
    resources: PaymentResources
    orchestrators: OrchestratorClient
    payers: list[Payer] = field(default_factory=list)
    running: list[asyncio.Task[Any]] = field(default_factory=list)

    async def grow(self, count: int) -> None:
        """Open sessions, spread over one interval, until there are so many."""
        while len(self.payers) < count:
            async with self.http.get(f"{self.url}/info") as response:
                info = OrchestratorInfo.parse(await response.read(), HERE)
            number = len(self.payers)
            payer = Payer(
                self.resources,
                self.orchestrators,
                info,
                job=JobIdentity(
                    stream=f"s{number}", stream_id=f"s{number}", request_id=f"r{number}", addr=self.url
                ),
            )
            self.payers.append(payer)
            await payer.first_payment()
            await payer.job_started(f"m{number}")
            self.running.append(tasks.spawn(payer.run(), name=f"payments {number}"))

    async def delay(self, seconds: float) -> int:
        """Slow the signer down; how many calls it had at once since the last time."""
        async with self.http.post(f"{self.url}/delay", data=str(seconds)) as response:
            return int((await response.json())["most_in_flight"])

    def paid(self) -> int:
        return sum(payer.status().accepted for payer in self.payers)

    async def watch(self, seconds: float) -> dict[str, Any]:
        """Let it run, and say how late the loop was and what it cost."""
        paid, used, started = self.paid(), _cpu(), time.monotonic()
        late = []
        while time.monotonic() - started < seconds:
            before = time.monotonic()
            await asyncio.sleep(SAMPLE)
            late.append(max(0.0, time.monotonic() - before - SAMPLE))
        took = time.monotonic() - started
        late.sort()
        cpu = 100 * (_cpu() - used) / took
        return {
            "sessions": len(self.payers),
            "payments_per_s": round((self.paid() - paid) / took, 1),
            "lag_p99_ms": round(1000 * late[int(0.99 * len(late))], 1),
            "cpu_percent": round(cpu, 1),
            "cpu_percent_per_session": round(cpu / len(self.payers), 3),
        }


async def measure(folder: Path, plan: Plan = FULL) -> AsyncIterator[dict[str, Any]]:
    for by_rhythm in rhythms.measure():
        yield by_rhythm
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(counterparts())
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        ledger = await Ledger.open(folder / "ledger.sqlite3")
        stack.push_async_callback(ledger.close)
        signer = await stack.enter_async_context(SignerClient(url))
        orchestrators = OrchestratorClient(address=SENDER_TEXT, signature=b"", capabilities=b"")
        stack.push_async_callback(orchestrators.close)
        resources = PaymentResources(
            signer=signer,
            sender=SENDER_TEXT,
            ledger=ledger,
            spending=Spending(SpendLimits()),
            ceiling=Fraction(PRICE),
            interval=INTERVAL,
            signing_slots=asyncio.Semaphore(plan.signing_calls),
        )
        bench = Bench(url, http, resources, orchestrators)
        held = 0
        for count in plan.steps:
            await bench.grow(count)
            row = await bench.watch(plan.seconds)
            yield {"figure": "payment sessions at an interval of 1 s", **row}
            if row["lag_p99_ms"] > AIM_MS or row["payments_per_s"] < 0.9 * count:
                break
            held = count
        yield {"figure": f"sessions held with a lag p99 below {AIM_MS:.0f} ms", "value": held}
        await bench.delay(plan.slow_signer)
        row = await bench.watch(plan.seconds)
        most = await bench.delay(0)
        yield {
            "figure": f"a signer that takes {plan.slow_signer:.0f} s",
            "lag_p99_ms": row["lag_p99_ms"],
            "aim": AIM_MS,
            "signing_calls_in_flight": most,
            "bound": plan.signing_calls,
            "sessions": len(bench.payers),
        }
        await tasks.cancel(*bench.running)
        await asyncio.gather(*(payer.close(EndReason.DRAINED) for payer in bench.payers))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    asyncio.run(serve())
