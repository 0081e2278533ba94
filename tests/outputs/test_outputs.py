"""The outputs beside a stream, with a small program in FFmpeg's place."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from gateway.media.fanout import Fanout
from gateway.media.gop import GopBuffer
from gateway.outputs.ffmpeg import FfmpegFailed
from gateway.outputs.hosts import TooManyNames
from gateway.outputs.output import OutputState
from gateway.outputs.outputs import Outputs, TooManyOutputs
from gateway.outputs.recorder import RecordOf, StreamRecorder
from gateway.outputs.retention import KEEP_ALL
from gateway.outputs.settings import OutputSettings, RecordSettings
from gateway.stream.stream import Stream
from harness.waiting import eventually
from tests.outputs.test_output_life import program, running, send

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
            params_size=0,
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
    await eventually(lambda: outputs.status(one)[0]["state"] != "waiting", what="the process", every=0.01)
    await eventually(lambda: list(folder.glob("*/*.mp4")), what="the file", every=0.01)
    one.finished.set()
    await eventually(lambda: not outputs.status(one), what="its end", every=0)
    await asyncio.wait_for(outputs.close(), 20)
    assert (tmp_path / "copy").stat().st_size > 0
    assert len(list(folder.glob("*/*.json"))) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("text", [None, "exit 1", 'for last; do :; done; : > "${last#file:}"'])
async def test_nothing_is_left_of_a_recording_that_never_began(tmp_path: Path, text: str | None) -> None:
    folder = tmp_path / "records"
    one = stream()
    recorder = StreamRecorder(folder)
    destination = recorder.destination(one, recorder.notes_of(one), source=False)
    name = str(tmp_path / "none") if text is None else program(tmp_path, text)
    async with running(destination, name) as output:
        send(output)
        await eventually(lambda: output.state is OutputState.RETRYING, what="its failure", every=0.01)
        assert list(folder.glob("**/*.*")) == []
        assert recorder.writing == set()


@pytest.mark.asyncio
async def test_nothing_is_left_of_a_recording_that_cannot_be_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    one = stream()
    recorder = StreamRecorder(tmp_path)
    destination = recorder.destination(one, recorder.notes_of(one), source=False)
    with pytest.raises(FfmpegFailed, match="No space"):
        await destination.begin(audio=False)
    assert list(tmp_path.glob("**/*.*")) == []
    assert recorder.writing == set()


@pytest.mark.asyncio
async def test_names_are_not_looked_up_for_more_outputs_than_may_run() -> None:
    asked = []

    async def resolve(host: str) -> Sequence[str]:
        asked.append(host)
        if host == "busy.example":
            raise TooManyNames("too many")
        return ["1.1.1.1"]

    outputs = Outputs(OutputSettings(program="cat", per_stream=1), lambda name: None, resolve=resolve)
    one = stream()
    with pytest.raises(TooManyOutputs, match="later"):
        await outputs.add(one, "rtmp://busy.example/a/b", source=False)
    await outputs.add(one, "rtmp://a.example/a/b", source=False)
    with pytest.raises(TooManyOutputs, match="end one first"):
        await outputs.add(one, "rtmp://b.example/a/b", source=False)
    assert asked == ["busy.example", "a.example"]
    await outputs.close()
