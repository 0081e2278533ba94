"""Which types of payments the signer makes: by the devnet's signers, and by what others may say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from gateway.devnet.signer import SignerConfig
from gateway.devnet.signer import serve as serve_signer
from gateway.payments.signer_types import TOLD_FOR, SignerTypes
from signer_client import BadRequest, Rejected, SignerClient, SignerUnreachable

pytestmark = pytest.mark.asyncio


class Clock:
    def __init__(self) -> None:
        self.now = 100 * 10**9

    def __call__(self) -> int:
        return self.now


class Scripted:
    """A signer that says this of each type of payment to nobody."""

    def __init__(self, **said: Exception) -> None:
        self.said = said

    async def generate_live_payment(self, *, orchestrator: bytes, payment_type: str, **_: Any) -> None:
        assert orchestrator == b""
        raise self.said[payment_type]


def bad(message: str) -> BadRequest:
    return BadRequest(400, message)


@asynccontextmanager
async def devnet_signer(dialect: str) -> AsyncIterator[SignerClient]:
    signer = await serve_signer(SignerConfig(key=bytes([2]) * 32, dialect=dialect))
    try:
        async with SignerClient(signer.url) as client:
            yield client
    finally:
        await signer.stop()


@pytest.mark.parametrize(("dialect", "refuses"), [("go", []), ("node", ["lv2v"])])
async def test_the_successors_signer_makes_none_for_jobs(
    dialect: str, refuses: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    types = SignerTypes()
    async with devnet_signer(dialect) as signer:
        for _ in range(3):
            await types.ask(signer)
    assert [one for one in ("lv2v", "live") if types.refusal(one)] == refuses
    assert types.refusals() == [types.refusal(one) for one in refuses]  # type: ignore[arg-type]
    warned = [line for line in capsys.readouterr().out.splitlines() if "makes no payments" in line]
    assert len(warned) == len(refuses), "the log says it once"


@pytest.mark.parametrize(
    ("lv2v", "live", "refused"),
    [
        (bad("missing orchestrator"), bad("missing orchestrator"), ""),
        (bad("missing orchestrator"), bad("unknown payment type"), "live"),
        (bad("lv2v is not a type"), bad("missing orchestrator"), "lv2v"),
        (bad("lv2v without type"), bad("live without type"), ""),
        (Rejected(401, "who are you"), bad("missing orchestrator"), ""),
        (SignerUnreachable("away"), bad("type must be lv2v"), ""),
    ],
)
async def test_a_signer_is_understood_by_what_it_says(lv2v: Exception, live: Exception, refused: str) -> None:
    types = SignerTypes()
    await types.ask(cast(SignerClient, Scripted(lv2v=lv2v, live=live)))
    assert [one for one in ("lv2v", "live") if types.refusal(one)] == [refused] * bool(refused)


async def test_another_signer_is_noticed_and_silence_changes_nothing() -> None:
    types = SignerTypes()
    none, away = bad("missing orchestrator"), SignerUnreachable("away")
    await types.ask(cast(SignerClient, Scripted(lv2v=bad("type must be live or fixed"), live=none)))
    await types.ask(cast(SignerClient, Scripted(lv2v=away, live=away)))
    assert types.refusal("lv2v")
    await types.ask(cast(SignerClient, Scripted(lv2v=none, live=none)))
    assert not types.refusal("lv2v")


async def test_the_refusal_of_a_real_call_counts_for_a_while() -> None:
    clock = Clock()
    types = SignerTypes(clock=clock)
    types.told("live", bad("ticket EV is too high"))
    assert not types.refusal("live")
    types.told("live", bad("invalid job type"))
    assert types.refusal("live") and not types.refusal("lv2v")
    clock.now += TOLD_FOR * 10**9
    assert not types.refusal("live")
