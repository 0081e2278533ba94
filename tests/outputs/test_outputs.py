"""The outputs beside a stream, with a small program in FFmpeg's place."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from gateway.media.fanout import Fanout
from gateway.media.gop import GopBuffer
from gateway.outputs.outputs import Outputs
from gateway.outputs.recorder import RecordOf
from gateway.outputs.retention import KEEP_ALL
from gateway.outputs.settings import OutputSettings, RecordSettings
from gateway.stream.stream import Stream
from harness.waiting import eventually
from tests.outputs.test_output_life import program, send

WRITES = """for last; do :; done
: > "${last#file:}"
echo out_time_us=1
cat > "${last#file:}"
echo total_size=9"""


def stream(name: str = "cam") -> Stream:
    """As much of one as outputs look at."""
    return cast(
        Stream,
        SimpleNamespace(
            request=SimpleNamespace(name=name, request_id="1"),
            finished=asyncio.Event(),
            held=GopBuffer(),
            source_taps=[],
            output=Fanout(),
            job_status=lambda: SimpleNamespace(orchestrator=None, payments=None),
            params={},
        ),
    )


@pytest.mark.asyncio
async def test_the_command_runs_for_recordings_that_end_with_the_gateway(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    record = RecordSettings(folder, RecordOf.RESULT, KEEP_ALL, ("cp", "{file}", str(tmp_path / "copy")))
    outputs = Outputs(OutputSettings(program=program(tmp_path, WRITES), record=record), lambda name: None)
    one = stream()
    outputs.begin(one, [])
    (tap,) = one.output.taps
    send(tap)
    await eventually(lambda: outputs.status(one)[0]["state"] == "connecting", what="the process", every=0.01)
    await eventually(lambda: list(folder.glob("*/*.mp4")), what="the file", every=0.01)
    one.finished.set()
    await eventually(lambda: not outputs.status(one), what="its end", every=0)
    await asyncio.wait_for(outputs.close(), 20)
    assert (tmp_path / "copy").stat().st_size > 0
    assert len(list(folder.glob("*/*.json"))) == 1
