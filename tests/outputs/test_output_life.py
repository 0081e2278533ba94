"""How an output's processes follow each other, with programs that do little in FFmpeg's place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from gateway.media.fanout import FrameTap
from gateway.media.frames import AccessUnit, OpusPacket
from gateway.outputs.disk import MIN_FREE, until_full
from gateway.outputs.hls import HlsWindow
from gateway.outputs.hls_streams import HlsEnd
from gateway.outputs.output import Destination, DestinationGone, Output, OutputState
from harness.waiting import eventually


class Nowhere:
    """A destination that ends its process when it is told to."""

    shown = "nowhere:"

    def __init__(self) -> None:
        self.begun = 0
        self.ends = 0
        self.gone = asyncio.Event()
        self.on_output: Callable[[bytes], None] | None = None

    async def begin(self, *, audio: bool) -> list[str]:
        self.begun += 1
        return []

    def is_due(self) -> bool:
        return False

    async def interrupted(self) -> None:
        await self.gone.wait()
        raise DestinationGone("full")

    async def ended(self, written: int) -> None:
        self.ends += 1

    def masked(self, text: str) -> str:
        return text


@asynccontextmanager
async def running(destination: Destination, program: str) -> AsyncIterator[Output]:
    one = Output(destination, program, log=structlog.get_logger())
    one.start()
    try:
        yield one
    finally:
        await one.close()


def key_frame(number: int = 0) -> AccessUnit:
    """With a parameter set of its own for each number."""
    at = 900_000 + 3_000 * number
    return AccessUnit([bytes([0x67, number % 250]), b"\x68\x01", b"\x65\x01"], at, at, True)


def send(one: FrameTap, number: int = 0) -> None:
    one.on_frame(key_frame(number))
    one.on_frame(OpusPacket(b"\xfc\xff\xfe", 900_000 + 3_000 * number))


def program(folder: Path, text: str) -> str:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


@pytest.mark.asyncio
async def test_a_process_ends_for_good_where_its_disk_is_full() -> None:
    free = iter([MIN_FREE, MIN_FREE, MIN_FREE - 1])
    with pytest.raises(DestinationGone, match="full"):
        await until_full(Path("/"), lambda folder: next(free), every=0.001)
    nowhere = Nowhere()
    async with running(nowhere, "cat") as one:
        send(one)
        await eventually(lambda: one.pid, what="the process", every=0.01)
        nowhere.gone.set()
        await eventually(lambda: one.state is OutputState.ENDED, what="the end", every=0.01)
        assert (one.error, one.pid, nowhere.begun, nowhere.ends) == ("full", None, 1, 1)


@pytest.mark.asyncio
async def test_a_process_whose_words_cannot_be_read_ends_and_nothing_of_it_is_held(tmp_path: Path) -> None:
    end = HlsEnd(HlsWindow())
    async with running(end, program(tmp_path, "cat")) as one:
        send(one)
        await eventually(lambda: one.state is OutputState.RETRYING, what="its end", every=0.01)
        assert "cannot be read" in one.error
        assert one.pid is None


@pytest.mark.asyncio
async def test_a_format_that_changes_with_each_key_frame_does_not_start_one_process_after_the_other() -> None:
    nowhere = Nowhere()
    async with running(nowhere, "cat") as one:
        send(one)
        await eventually(lambda: one.pid, what="the first process", every=0.01)
        for number in range(1, 60):
            send(one, number)
        await eventually(lambda: one.state is OutputState.RETRYING, what="the pause", every=0.01, deadline=10)
        assert nowhere.begun == nowhere.ends == 3
        assert "changes all the time" in one.error
        assert one.restarts == 0
