"""Recordings: which are kept, where they go, what runs when one is finished."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outputs.done_commands import DoneCommands, parse_command
from gateway.outputs.output import DestinationGone
from gateway.outputs.recorder import MAX_NOTED, MAX_PARAMS_NOTED, RecordOf, StreamRecorder
from gateway.outputs.retention import KeepRule, Recorded, recorded, remove, to_remove
from gateway.stream.params import json_size
from gateway.stream.stream import Stream
from harness.cost import TURN, cpu_seconds
from harness.waiting import SLACK

FILES = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=20)


@given(FILES, st.none() | st.integers(1, 100), st.none() | st.integers(0, 500))
def test_what_stays_is_young_and_small_enough_and_the_newest(
    said: list[tuple[int, int]], seconds: int | None, size: int | None
) -> None:
    files = [Recorded(Path(f"{n}.mp4"), changed, bytes_) for n, (changed, bytes_) in enumerate(said)]
    removed = to_remove(files, KeepRule(seconds, size), now=100)
    kept = [file for file in files if file not in removed]
    assert all(seconds is None or 100 - file.changed <= seconds for file in kept)
    assert size is None or sum(file.size for file in kept) <= size
    assert not (removed and kept) or max(f.changed for f in removed) <= min(f.changed for f in kept)
    assert seconds is not None or size is not None or not removed


def test_a_removed_recording_takes_its_json_and_an_empty_folder_along(tmp_path: Path) -> None:
    folder = tmp_path / "cam"
    folder.mkdir()
    for name in ("a.mp4", "a.json", "b.mp4", "other.txt"):
        (folder / name).write_text("x")
    found = recorded(tmp_path, {folder / "b.mp4"})
    assert [one.path.name for one in found] == ["a.mp4"]
    assert remove(found) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["b.mp4", "other.txt"]


@pytest.mark.asyncio
async def test_no_name_leads_out_of_the_folder_and_a_full_disk_ends_it(tmp_path: Path) -> None:
    recorder = StreamRecorder(tmp_path)
    for name in (".", "..", "cam"):
        assert recorder.new_file(name, "t").parent.parent == tmp_path
    first = recorder.new_file("cam", "t")
    recorder.writing.add(first)
    assert recorder.new_file("cam", "t") != first
    with pytest.raises(DestinationGone, match="full"):
        StreamRecorder(tmp_path, free=lambda path: 0).new_file("cam", "t")


@pytest.mark.asyncio
async def test_a_command_runs_for_each_file_without_a_shell(tmp_path: Path) -> None:
    for bad in ("", "{file}", "cp", "cp 'x"):
        with pytest.raises(ValueError):
            parse_command(bad)
    commands = DoneCommands(parse_command(f"touch '{{file}} done' {tmp_path}/$HOME;x"))
    for name in ("a b", "c"):
        commands.add(tmp_path / name)
    await commands.close()
    assert {path.name for path in tmp_path.iterdir()} == {"a b done", "c done", "$HOME;x"}
    assert commands.failed == 0
    failing = DoneCommands(parse_command("ls {file}"))
    failing.add(tmp_path / "missing")
    await asyncio.wait_for(failing.close(), 20)
    assert failing.failed == 1


def test_both_sides() -> None:
    assert [of.sides for of in RecordOf] == [(), (False,), (True,), (False, True)]


def test_notes_of_large_parameters_are_measured_once(tmp_path: Path) -> None:
    many = {f"key {number}": "x" * 30 for number in range(15_990)}
    one = SimpleNamespace(
        params=many,
        params_size=json_size(many),
        job_status=lambda: SimpleNamespace(orchestrator=None),
    )
    notes = StreamRecorder(tmp_path).notes_of(cast(Stream, one))

    def updates() -> None:
        for number in range(20):
            one.params = {**many, "number": number}
            notes.sample(cast(Stream, one))

    assert cpu_seconds(updates, times=1) < SLACK * TURN
    assert [note["params"]["number"] for note in notes.params][-1] == 19
    kept = sum(json_size(note["params"]) for note in notes.params)
    assert MAX_PARAMS_NOTED / 2 < kept <= MAX_PARAMS_NOTED + len(notes.params) * 20


def test_the_newest_notes_stay(tmp_path: Path) -> None:
    one = SimpleNamespace(params={}, params_size=0, job_status=lambda: SimpleNamespace(orchestrator=None))
    notes = StreamRecorder(tmp_path).notes_of(cast(Stream, one))
    for number in range(MAX_NOTED + 5):
        one.params, one.params_size = {"number": number}, 20
        notes.sample(cast(Stream, one))
        notes.sample(cast(Stream, one))
    assert [note["params"]["number"] for note in notes.params] == list(range(5, MAX_NOTED + 5))
    one.params, one.params_size = {"number": 0}, MAX_PARAMS_NOTED + 1
    notes.sample(cast(Stream, one))
    assert [note["params"] for note in notes.params] == [{"number": 0}]
