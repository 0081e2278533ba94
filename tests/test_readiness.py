from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.aio.tasks import cancel, spawn
from gateway.payments.errors import LedgerError
from gateway.readiness import Readiness
from gateway.stream.admission import Admission
from harness.waiting import eventually
from signer_client import SignerError


class Part:
    """A ledger or a signer whose check fails with `error`, or hangs."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.hangs = False

    async def check(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error

    ping = check


class Parts:
    def __init__(self) -> None:
        self.ledger, self.signer, self.admission = Part(), Part(), Admission()
        self.sources: list[str] = []
        self.left_out: list[str] = []
        self.readiness = Readiness(
            self.ledger,  # type: ignore[arg-type]
            self.signer,  # type: ignore[arg-type]
            self.admission,
            lambda: self.sources,
            sources_left_out=lambda: self.left_out,
            interval=0.01,
            timeout=0.05,
        )


@pytest_asyncio.fixture
async def parts() -> AsyncIterator[Parts]:
    parts = Parts()
    running = spawn(parts.readiness.run(), name="readiness")
    yield parts
    await cancel(running)


@pytest.mark.asyncio
async def test_a_failing_ledger_and_a_silent_signer_are_reasons_until_they_work_again(parts: Parts) -> None:
    parts.ledger.error = LedgerError("the disk is full")
    parts.signer.hangs = True
    both = {"the ledger cannot be used: the disk is full", "the signer does not answer"}
    await eventually(lambda: set(parts.readiness.reasons()) == both, what="both reasons")
    parts.ledger.error, parts.signer.hangs = None, False
    await eventually(lambda: parts.readiness.reasons() == [], what="no reason")


@pytest.mark.asyncio
async def test_an_error_of_the_signer_is_a_reason(parts: Parts) -> None:
    parts.signer.error = SignerError("status 500")
    await eventually(
        lambda: parts.readiness.reasons() == ["the signer cannot be used: status 500"], what="the reason"
    )


@pytest.mark.asyncio
async def test_sources_without_anybody_are_reasons_at_once(parts: Parts) -> None:
    parts.sources = ["no orchestrator is known"]
    assert parts.readiness.reasons() == ["no orchestrator is known"]


@pytest.mark.asyncio
async def test_what_only_some_candidates_lack_is_noted_and_no_reason(parts: Parts) -> None:
    parts.left_out = ["the signer makes no payments for jobs"]
    assert (parts.readiness.reasons(), parts.readiness.notes()) == ([], parts.left_out)


@pytest.mark.asyncio
async def test_draining_is_the_only_reason(parts: Parts) -> None:
    parts.sources, parts.admission.draining = ["no orchestrator is known"], True
    (reason,) = parts.readiness.reasons()
    assert reason.startswith("draining: ")
