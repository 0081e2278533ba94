"""Heavy tests run a few at a time, and one that is marked `alone` without any other of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.turns import HEAVY_AT_ONCE

NAMES = ("one", "two", "three", "four", "five", "six")
ROOT = Path(__file__).parents[1]
TEST = """
import json, os, pathlib, time
import pytest

@pytest.mark.parametrize("number", range(6))
def test_shared(number): note("shared")

@pytest.mark.alone
def test_alone():
    began.touch()
    wait_for(gave_way)
    note("alone")

def note(kind):
    began = time.monotonic()
    time.sleep(0.05)
    with seen.open("a") as file:
        file.write(json.dumps([kind, began, time.monotonic()]) + "\\n")
"""
LIGHT = """
def test_light_until_one_is_alone(): wait_for(began)

def test_light_beside_it(): gave_way.write_text(str(os.nice(0)))
"""
PLACES = """
seen, began, gave_way = (pathlib.Path({folder!r}, name) for name in ("seen", "began", "gave_way"))

def wait_for(path):
    until = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < until, path
        time.sleep(0.01)
"""


def test_few_heavy_ones_run_at_once_and_none_beside_one_that_is_alone_to_which_light_ones_give_way(
    tmp_path: Path,
) -> None:
    places = PLACES.format(folder=str(tmp_path))
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nmarkers =\n  alone\n  heavy\npythonpath = {ROOT}\n")
    tests = tmp_path / "tests"
    (tests / "e2e").mkdir(parents=True)
    for name in NAMES:
        (tests / "e2e" / f"test_{name}.py").write_text(TEST + places)
    (tests / "test_light.py").write_text("import os, pathlib, time" + LIGHT + places)
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            *("-p", "xdist", "-p", "tests.turns"),
            *("-n", str(len(NAMES)), "--dist", "loadscope", "--no-loadscope-reorder"),
            str(tmp_path),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    times = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
    assert len(times) == 7 * len(NAMES)
    for kind, began, ended in times:
        beside = [one for one in times if one[1] < ended and one[2] > began]
        assert kind != "alone" or len(beside) == 1, beside
        at_once = [one for one in times if one[1] <= began < one[2]]
        assert len(at_once) <= HEAVY_AT_ONCE, at_once
    assert (tmp_path / "gave_way").read_text() == str(max(10, os.nice(0)))
