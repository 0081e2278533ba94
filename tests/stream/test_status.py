"""What is JSON in the end: exact sums and prices, rounded once."""

from __future__ import annotations

from fractions import Fraction

from gateway.candidates.verdict import Verdict
from gateway.http.schemas import ORCHESTRATOR, PAYMENTS
from gateway.payments.status import PaymentStatus
from gateway.stream.seam import Candidate, JobStatus, OrchestratorRef
from gateway.stream.status import candidate_json, orchestrator_json, payments_json
from tests.stream.jobs import FakeSource


def paid(**changes: Fraction | int | None) -> PaymentStatus:
    fields = {
        "accepted": 1,
        "tickets": 2,
        "credited": Fraction(1, 3),
        "owed": Fraction(2, 3),
        "last_accepted_age": None,
        "next_due_in": Fraction(1, 3),
        "credit_left": Fraction(-1, 3),
        "alarms": 0,
    }
    return PaymentStatus(**{**fields, **changes}, state="ok")  # type: ignore[arg-type]


def test_sums_of_several_jobs_are_exact_and_rounded_once() -> None:
    total = JobStatus()
    for _ in range(3):
        total = JobStatus(payments=paid(), segments=5).after(total)
    assert total.segments == 15
    assert payments_json(total.payments) == {
        "accepted": 3,
        "tickets": 6,
        "credited_wei": "1",
        "owed_wei": "2",
        "overpaid_wei": "0",
        "last_accepted_age_s": None,
        "next_due_in_s": 0.333,
        "credit_left_s": -0.333,
        "state": "ok",
        "alarms": 0,
    }
    assert payments_json(total.payments).keys() == PAYMENTS["properties"].keys()  # type: ignore[union-attr]
    assert payments_json(JobStatus().after(total).payments) == payments_json(total.payments)
    assert payments_json(None) is None


def test_the_kind_of_a_job_is_told_and_the_id_of_a_live_runners_session_is_not() -> None:
    one = OrchestratorRef(url="https://o", address="0xA", price=Fraction(1, 3), manifest_id="m")
    assert orchestrator_json(one) == {
        "url": "https://o",
        "kind": "job",
        "address": "0xA",
        "price_wei_per_second": "1/3",
        "manifest_id": "m",
    }
    own = OrchestratorRef(url="http://gpu", price=Fraction(0), kind="comfystream")
    assert orchestrator_json(own) == {
        "url": "http://gpu",
        "kind": "comfystream",
        "address": "",
        "price_wei_per_second": "0",
        "manifest_id": "",
    }
    runner = OrchestratorRef(url="https://r", price=Fraction(1), manifest_id="m", kind="runner", app="a/b")
    assert orchestrator_json(runner) == {
        "url": "https://r",
        "kind": "runner",
        "address": "",
        "price_wei_per_second": "1",
        "app": "a/b",
        "version": "",
        "gpu": "",
    }
    described = ORCHESTRATOR["properties"].keys()
    assert all((orchestrator_json(ref) or {}).keys() <= described for ref in (one, own, runner))
    assert orchestrator_json(None) is None


def test_a_candidate_has_its_price_and_verdict() -> None:
    one = Candidate(source=FakeSource(), url="https://o", addr="o:1", price=None)
    one.set_verdict(Verdict.UNREACHABLE, "connection refused")
    assert candidate_json(one) == {
        "url": "https://o",
        "price_wei_per_second": None,
        "verdict": "unreachable",
        "detail": "connection refused",
    }
