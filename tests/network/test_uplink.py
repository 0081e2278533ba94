"""Who is asked before an orchestrator is blamed for its silence."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from gateway.network.uplink import RECOVERY, SHARED_FOR, Uplink
from gateway.orchestrator.errors import NoCapacity, OrchestratorError, Unreachable
from signer_client import SignerError, SignerStatusError, SignerUnreachable


class Others:
    """Other orchestrators and the signer, each with the error that it answers with."""

    def __init__(
        self, orchestrators: dict[str, OrchestratorError | None], signer: SignerError | None = None
    ) -> None:
        self.orchestrators = orchestrators
        self.signer = signer
        self.asked: list[str] = []
        self.now = 0.0
        known = [SimpleNamespace(addr=addr) for addr in ("silent", *orchestrators)]
        pool = SimpleNamespace(candidates=lambda: known)
        self.uplink = Uplink(cast(Any, pool), cast(Any, self), cast(Any, self), clock=lambda: self.now)

    async def get_info(self, addr: str, *, ignore_capacity: bool, timeout: float) -> None:
        self.asked.append(addr)
        await asyncio.sleep(0)
        if (error := self.orchestrators[addr]) is not None:
            raise error

    async def sign_orchestrator_info(self) -> None:
        self.asked.append("signer")
        if self.signer is not None:
            raise self.signer


GONE = Unreachable("no answer")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("orchestrators", "signer", "answers", "asked"),
    [
        ({"a": None}, None, True, ["a"]),
        ({"a": GONE, "b": NoCapacity("full")}, None, True, ["a", "b"]),
        ({"a": GONE, "b": GONE}, None, False, ["a", "b"]),
        ({"a": GONE, "b": GONE, "c": GONE, "d": None}, None, False, ["a", "b", "c"]),
        ({}, None, True, ["signer"]),
        ({}, SignerStatusError(500, ""), True, ["signer"]),
        ({}, SignerUnreachable("no answer"), False, ["signer"]),
    ],
)
async def test_other_orchestrators_are_asked_and_the_signer_where_there_are_none(
    orchestrators: dict[str, OrchestratorError | None],
    signer: SignerError | None,
    answers: bool,
    asked: list[str],
) -> None:
    others = Others(orchestrators, signer)
    assert await others.uplink.somebody_answers("silent") is answers
    assert others.asked == asked


@pytest.mark.asyncio
async def test_one_question_serves_all_streams_for_a_moment() -> None:
    others = Others({"a": GONE})
    answers = await asyncio.gather(*[others.uplink.somebody_answers("silent") for _ in range(5)])
    assert (answers, others.asked) == ([False] * 5, ["a"])
    others.now, others.orchestrators["a"] = SHARED_FOR + 0.1, None
    await others.uplink.somebody_answers("silent")
    assert others.asked == ["a", "a"]


@pytest.mark.asyncio
async def test_when_somebody_answers_again_the_silent_one_has_time_to_come_back_too() -> None:
    others = Others({"a": GONE})
    assert not await others.uplink.somebody_answers("silent")
    others.now, others.orchestrators["a"] = RECOVERY - 0.1, None
    assert not await others.uplink.somebody_answers("silent")
    others.now = RECOVERY + 0.1
    assert await others.uplink.somebody_answers("silent")


@pytest.mark.asyncio
async def test_an_uplink_that_is_down_is_logged_once_for_all_streams_until_somebody_answers_again() -> None:
    streams = ("silent", "a", "b")
    others = Others(dict.fromkeys(streams, GONE))
    with capture_logs() as logs:
        for moment in range(10):
            others.now = moment * (SHARED_FOR + 0.1)
            await asyncio.gather(*[others.uplink.somebody_answers(silent) for silent in streams])
        assert len(logs) == 1
        assert (logs[0]["log_level"], "uplink seems to be down" in logs[0]["event"]) == ("warning", True)
        for error in (None, GONE):
            others.now, others.orchestrators = others.now + SHARED_FOR + 0.1, dict.fromkeys(streams, error)
            await others.uplink.somebody_answers("silent")
    assert len(logs) == 2, "a fault after an answer is another one"
