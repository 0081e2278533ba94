"""A test that is marked `alone` has the machine for itself among parallel ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEST = """
import json, time
import pytest

@pytest.mark.parametrize("number", range(6))
def test_shared(number): note("shared")

@pytest.mark.alone
def test_alone(): note("alone")

def note(kind):
    began = time.monotonic()
    time.sleep(0.05)
    with open({seen!r}, "a") as seen:
        seen.write(json.dumps([kind, began, time.monotonic()]) + "\\n")
"""


def test_nothing_runs_beside_a_test_that_is_marked_alone(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = alone\n")
    for name in ("one", "two", "three"):
        (tmp_path / f"test_{name}.py").write_text(TEST.replace("{seen!r}", repr(str(seen))))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--numprocesses", "3", "--dist", "loadscope", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    times = [json.loads(line) for line in seen.read_text().splitlines()]
    assert len(times) == 21
    for kind, began, ended in times:
        beside = [one for one in times if one[1] < ended and one[2] > began]
        assert kind != "alone" or len(beside) == 1, beside
