"""First payments of jobs that did not start: the next start at that address hands out the same bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
import pytest_asyncio
import structlog

from gateway.candidates.trust import Trust
from gateway.network.job import OrchestratorJob
from gateway.network.models import ModelNetworks
from gateway.network.resources import NetworkResources
from gateway.network.source import NetworkSource
from gateway.orchestrator.errors import (
    AlreadySeen,
    BadAnswer,
    NoCapacity,
    OrchestratorError,
    Refused,
    UnknownOutcome,
    Unreachable,
)
from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.job_start import JobRequest, JobUrls
from gateway.payments.customer import ANYBODY, Customer
from gateway.payments.first_payments import FirstPayments
from gateway.payments.ledger import Ledger
from gateway.payments.ledger_rows import Grouping
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.spending import (
    DAY,
    NO_LIMITS,
    PublisherBudget,
    Spending,
    SpendLimits,
    StreamLimits,
)
from gateway.payments.steps import Outcome
from gateway.payments.verify import verify
from gateway.reason import Ended, EndReason, NoRoom
from gateway.stream.seam import Candidate, PublishRequest
from harness.payment_models import PRICE, SENDER_TEXT, orchestrator_info
from harness.waiting import DEADLINE, eventually
from signer_client import SignerClient
from tests.network.test_job import Host
from tests.payments.ledgers import history
from tests.payments.payers import ScriptedSigner

PRELOAD = 60 * PRICE


class Orchestrator:
    """Answers each start with an error of the script; a job that starts has channels that nobody serves."""

    capabilities = b"caps"

    def __init__(self, *script: OrchestratorError) -> None:
        self.script = list(script)
        self.handed_out: list[str] = []
        """The payment of each start."""
        self.answers = asyncio.Event()
        self.answers.set()
        self._rand = 0

    async def take(self, addr: str, price: Fraction | None) -> OrchestratorInfo:
        self._rand += 1
        return orchestrator_info(rand=self._rand)

    def http_for(self, info: OrchestratorInfo) -> aiohttp.ClientSession:
        return self.http

    async def start_job(
        self, info: OrchestratorInfo, *, payment: str, seg_creds: str, body: JobRequest
    ) -> JobUrls:
        self.handed_out.append(payment)
        await self.answers.wait()
        if self.script:
            raise self.script.pop(0)
        return JobUrls(*["http://127.0.0.1:9/ai/trickle/m"] * 3, "", manifest_id=f"m{len(self.handed_out)}")


class Setup:
    """Streams whose jobs start on one orchestrator, with a signer that gives what is asked for."""

    def __init__(self, http: aiohttp.ClientSession, ledger: Ledger) -> None:
        self.ledger = ledger
        self.orchestrator = Orchestrator()
        self.orchestrator.http = http
        self.signer = ScriptedSigner(60, 60, 60)
        self.spending = Spending(SpendLimits())
        payments = PaymentResources(
            signer=cast(SignerClient, self.signer),
            sender=SENDER_TEXT,
            ledger=ledger,
            spending=self.spending,
            ceiling=Fraction(PRICE),
            interval=5 * 10**9,
            signing_slots=asyncio.Semaphore(),
        )
        self.trust = Trust()
        pool = SimpleNamespace(
            take=self.orchestrator.take,
            job_opened=lambda addr, address, job: self.trust.begin(addr),
            pays=lambda addr, info: None,
            job_began=lambda addr, job: None,
            job_over=lambda addr, job, ran: None,
        )
        self.network = NetworkResources(
            cast(Any, self.orchestrator), cast(Any, pool), cast(Any, None), payments
        )

    def job(
        self,
        stream: str,
        limits: StreamLimits = NO_LIMITS,
        publisher: str = "",
        customer: Customer = ANYBODY,
    ) -> OrchestratorJob:
        candidate = Candidate(
            source=NetworkSource(ModelNetworks(["m"], lambda _: self.network)),
            url="https://o",
            addr="o",
            price=None,
        )
        request = PublishRequest(
            stream, stream, f"{stream}-1", "m", limits=limits, publisher=publisher, customer=customer
        )
        return OrchestratorJob(self.network, candidate, request, Host(), structlog.get_logger())

    async def fails(self, job: OrchestratorJob) -> Ended:
        """Run a job to its end, and have it give everything back."""
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(Ended) as ended:
                await job.run()
            await job.close(ended.value.reason)
        return ended.value

    async def starts(self, job: OrchestratorJob) -> None:
        """Run a job until it has started, then end it as a stream does."""
        running = asyncio.get_running_loop().create_task(job.run())
        await eventually(lambda: job.started or running.done(), every=0.001)
        assert job.started
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await job.close(EndReason.DELETED)

    async def sessions(self) -> list[tuple[str, str]]:
        """The stream of each session, and the last step of its payment."""
        accounts = [account async for account in self.ledger.reader.sessions(payments=True)]
        return [(one.row["stream"], one.payments[0].steps[-1]["step"]) for one in accounts]


@pytest_asyncio.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite3")
    async with aiohttp.ClientSession() as http:
        made = Setup(http, ledger)
        yield made
        await made.network.first_payments.close()
    await ledger.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "failure",
    [NoCapacity("HTTP 503"), UnknownOutcome("nothing came back"), Unreachable("connection refused")],
    ids=lambda error: type(error).__name__,
)
async def test_a_payment_that_was_not_credited_starts_the_next_job_there_whatever_its_stream(
    setup: Setup, failure: OrchestratorError
) -> None:
    setup.orchestrator.script = [failure]
    refused, starting = setup.job("a"), setup.job("b")
    ended = await setup.fails(refused)
    assert isinstance(ended, NoRoom) == isinstance(failure, NoCapacity)
    await setup.starts(starting)
    assert len(setup.signer.calls) == 1
    assert len(set(setup.orchestrator.handed_out)) == 1
    assert (refused.paid, starting.paid) == (True, False)
    assert setup.spending.spent_by("a-1") == 0
    assert setup.spending.spent_by("b-1") == PRELOAD
    assert await setup.sessions() == [("b", "credited")]


@pytest.mark.asyncio
async def test_a_payment_that_was_not_credited_serves_only_who_is_the_same_to_the_signer(
    setup: Setup,
) -> None:
    ann = Customer("ann", {"Authorization": "Bearer ann"})
    bob = Customer("bob", {"Authorization": "Bearer bob"})
    setup.orchestrator.script = [NoCapacity("HTTP 503")] * 2
    await setup.fails(setup.job("a", customer=ann))
    await setup.fails(setup.job("b", customer=bob))
    await setup.starts(setup.job("c", customer=replace(ann, name="anna")))
    await setup.starts(setup.job("d", customer=bob))
    assert [call["headers"] for call in setup.signer.calls] == [ann.signer_headers, bob.signer_headers]
    handed_out = setup.orchestrator.handed_out
    assert (handed_out[2], handed_out[3]) == (handed_out[0], handed_out[1])
    rows = [one.row async for one in setup.ledger.reader.sessions()]
    assert [(row["stream"], row["customer"]) for row in rows] == [("c", "anna"), ("d", "bob")]


@pytest.mark.asyncio
async def test_a_refusal_of_the_signer_takes_nothing_from_an_address_that_credits() -> None:
    turns = FirstPayments()
    credited = await turns.turn("o")
    credited.credited()
    refused = await turns.turn("o")
    await refused.close(None, EndReason.SIGNER_REFUSED)
    under_way = await turns.turn("o")
    async with asyncio.timeout(DEADLINE):
        await turns.turn("o")
    await under_way.close(None, EndReason.ORCHESTRATOR_LOST)


@pytest.mark.asyncio
async def test_who_has_no_room_twice_for_the_same_payment_is_to_blame(setup: Setup) -> None:
    setup.orchestrator.script = [NoCapacity("HTTP 503")] * 3
    assert isinstance(await setup.fails(setup.job("a")), NoRoom)
    for stream in "bc":
        failure = await setup.fails(setup.job(stream))
        assert not isinstance(failure, NoRoom)
        assert failure.reason is EndReason.ORCHESTRATOR_LOST
    assert len(setup.signer.calls) == 1


@pytest.mark.asyncio
async def test_who_says_no_room_and_then_that_it_was_paid_gets_no_second_payment(setup: Setup) -> None:
    setup.orchestrator.script = [NoCapacity("HTTP 503"), AlreadySeen("HTTP 400")]
    assert isinstance(await setup.fails(setup.job("a")), NoRoom)
    failure = await setup.fails(setup.job("b"))
    assert not isinstance(failure, NoRoom)
    assert failure.reason is EndReason.ORCHESTRATOR_LOST
    assert len(setup.signer.calls) == 1
    assert await setup.sessions() == [("b", "unknown")]
    await setup.starts(setup.job("c"))
    assert len(setup.signer.calls) == 2


@pytest.mark.asyncio
async def test_a_start_that_was_credited_unheard_is_followed_by_one_with_its_own_payment(
    setup: Setup,
) -> None:
    setup.orchestrator.script = [UnknownOutcome("nothing came back"), AlreadySeen("HTTP 400")]
    await setup.fails(setup.job("a"))
    await setup.starts(setup.job("b"))
    assert len(setup.signer.calls) == 2
    assert await setup.sessions() == [("b", "unknown"), ("b", "credited")]


@pytest.mark.asyncio
async def test_who_never_answers_a_start_and_then_was_paid_gets_one_payment_for_each_start(
    setup: Setup,
) -> None:
    setup.orchestrator.script = [UnknownOutcome("nothing came back")]
    jobs = [setup.job(name) for name in "abcd"]
    for number, job in enumerate(jobs, 1):
        await setup.fails(job)
        assert len(setup.signer.calls) == number
        assert job.paid, "an empty start, for which it is passed over and longer each time"
        setup.orchestrator.script = [AlreadySeen("HTTP 400"), UnknownOutcome("nothing came back")]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "failure",
    [Refused(403, "HTTP 403"), AlreadySeen("HTTP 400"), BadAnswer("no manifest_id")],
    ids=lambda error: type(error).__name__,
)
async def test_a_payment_that_was_refused_or_credited_is_not_handed_out_again(
    setup: Setup, failure: OrchestratorError
) -> None:
    setup.orchestrator.script = [failure]
    await setup.fails(setup.job("a"))
    await setup.starts(setup.job("b"))
    assert len(set(setup.orchestrator.handed_out)) == 2


@pytest.mark.asyncio
async def test_starts_at_an_unknown_address_wait_for_one_another_until_one_is_credited(setup: Setup) -> None:
    setup.orchestrator.answers.clear()
    setup.orchestrator.script = [NoCapacity("HTTP 503")]
    first = asyncio.get_running_loop().create_task(setup.fails(setup.job("a")))
    await eventually(lambda: setup.orchestrator.handed_out, every=0.001)
    others = [asyncio.get_running_loop().create_task(setup.starts(setup.job(name))) for name in "bc"]
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(setup.signer.calls) == 1
    setup.orchestrator.answers.set()
    await asyncio.gather(first, *others)
    assert len(setup.signer.calls) == 2, "one of the others hands out the payment of the first"
    assert len(setup.orchestrator.handed_out) == 3


@pytest.mark.asyncio
async def test_a_stream_that_may_not_spend_as_much_leaves_the_payment_for_others(setup: Setup) -> None:
    setup.orchestrator.script = [NoCapacity("HTTP 503")]
    await setup.fails(setup.job("a"))
    ended = await setup.fails(setup.job("b", StreamLimits(wei=PRELOAD - 1)))
    assert ended.reason is EndReason.SPEND_LIMIT
    assert setup.spending.spent_by("a-1") == PRELOAD
    await setup.starts(setup.job("c"))
    assert len(setup.signer.calls) == 1


@pytest.mark.asyncio
async def test_a_payment_counts_for_the_publisher_that_uses_it_also_after_a_restart(setup: Setup) -> None:
    setup.orchestrator.script = [NoCapacity("HTTP 503"), Unreachable("connection refused")]
    limits = StreamLimits(publisher_hour=PRELOAD)
    await setup.fails(setup.job("a", limits, "ann"))
    assert (await setup.fails(setup.job("b", limits, "ann"))).reason is EndReason.ORCHESTRATOR_LOST
    await setup.starts(setup.job("c", limits, "bob"))
    restarted = Spending(SpendLimits())
    restarted.restore(await setup.ledger.reader.signed_since(0))
    for spending in (setup.spending, restarted):
        spent = {who: spending.spent_by_publisher(PublisherBudget(who, 0, 0), DAY) for who in ("ann", "bob")}
        assert spent == {"ann": 0, "bob": PRELOAD}
    totals = await setup.ledger.reader.totals(Grouping.PUBLISHER)
    assert [(total.key, total.wei[Outcome.CREDITED]) for total in totals] == [("bob", PRELOAD)]
    assert (await setup.fails(setup.job("d", limits, "bob"))).reason is EndReason.SPEND_LIMIT
    await setup.starts(setup.job("e", limits, "ann"))
    assert (await verify(setup.ledger.reader)).findings == []


class KeptPayer:
    """Has a first payment that nobody credited."""

    first_payment_usable = True
    customer = ANYBODY

    async def close(self, reason: EndReason) -> None:
        pass


@pytest.mark.asyncio
async def test_addresses_of_which_nothing_is_known_are_forgotten_and_those_in_use_are_not() -> None:
    payer, turns = KeptPayer(), FirstPayments()
    await (await turns.turn("keeps one")).close(cast(Payer, payer), EndReason.ORCHESTRATOR_LOST)
    under_way = await turns.turn("under way")
    waiting = asyncio.get_running_loop().create_task(turns.turn("under way"))
    await asyncio.sleep(0)
    for number in range(5):
        await (await turns.turn(f"knows nothing {number}")).close(None, EndReason.ORCHESTRATOR_LOST)
    assert len(turns) == 3
    await under_way.close(None, EndReason.ORCHESTRATOR_LOST)
    await (await waiting).close(None, EndReason.ORCHESTRATOR_LOST)
    await (await turns.turn("knows nothing")).close(None, EndReason.ORCHESTRATOR_LOST)
    again = await turns.turn("keeps one")
    assert again.kept is payer
    assert len(turns) == 1
    await again.close(cast(Payer, payer), EndReason.ORCHESTRATOR_LOST)
    payer.first_payment_usable = False
    await turns.turn("another")
    assert len(turns) == 1


class RunnerPayer(KeptPayer):
    """Its payment is for one runner."""

    def __init__(self, runner: str) -> None:
        self.runner = runner


@pytest.mark.asyncio
async def test_a_payment_for_one_runner_keeps_no_other_of_a_proven_address_from_its_own() -> None:
    turns = FirstPayments()

    async def kept(runner: str, *, proven: bool) -> str | None:
        """The runner of the payment that a start is given, which fails."""

        def serves(payer: Payer) -> bool:
            return cast(RunnerPayer, payer).runner == runner

        turn = await turns.turn("o", serves=serves, proven=proven)
        payer = cast(RunnerPayer, turn.kept or RunnerPayer(runner))
        await turn.close(cast(Payer, payer), EndReason.ORCHESTRATOR_LOST)
        return None if turn.kept is None else payer.runner

    assert await kept("a", proven=False) is None
    assert await kept("b", proven=False) == "a"
    assert await kept("b", proven=True) is None
    assert [await kept(runner, proven=True) for runner in "abab"] == list("abab"), "one for each at most"
    assert [await kept(runner, proven=True) for runner in "cd"] == [None, None]
    assert await kept("e", proven=True) is not None, "no more than MAX_KEPT wait"


@pytest.mark.asyncio
async def test_no_more_addresses_are_remembered_than_there_are_to_choose_from() -> None:
    turns = FirstPayments(remembered=2)
    for address in "abcab":
        turn = await turns.turn(address)
        turn.credited()
        await turn.close(None, EndReason.DELETED)
    assert len(turns) == 3


@pytest.mark.asyncio
async def test_payments_that_nobody_used_are_left_to_the_next_run_of_the_gateway(setup: Setup) -> None:
    setup.orchestrator.script = [NoCapacity("HTTP 503")]
    await setup.fails(setup.job("a"))
    await setup.network.first_payments.close()
    assert await history(setup.ledger) == ["intended", "signed", "delivered", "handed_out"]
    (former,) = await setup.ledger.former_jobs()
    assert former.job.stream == "a"
