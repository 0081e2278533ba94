"""A test that hangs in any way fails within its time, and never the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.time_limits import timeout_of

ROOT = Path(__file__).parents[1]
SETTINGS = f"""
[pytest]
timeout = 1
hang_grace = 1
asyncio_default_fixture_loop_scope = function
pythonpath = {ROOT}
"""
TESTS = """
import asyncio, ctypes, signal, time
import pytest

def test_before(): pass

def test_in_c_code_that_hears_no_signal():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    ctypes.PyDLL(None).sleep(1000)  # and keeps the GIL

@pytest.mark.asyncio
async def test_whose_loop_keeps_what_the_signal_raises():
    asyncio.get_running_loop().call_soon(busy)
    await asyncio.Event().wait()

def busy():
    until = time.monotonic() + 1.5
    while time.monotonic() < until: pass

@pytest.fixture
def never_given_back():
    yield
    time.sleep(1000)

def test_with_a_teardown_that_hangs_after_a_failure(never_given_back): assert False, "its own failure"

def test_after(): pass
"""


def test_a_test_that_hangs_is_ended_and_reported_and_the_others_run(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    (tmp_path / "test_hangs.py").write_text(TESTS)
    plugins = (
        "-p",
        "xdist",
        "-p",
        "pytest_timeout",
        "-p",
        "pytest_asyncio.plugin",
        "-p",
        "tests.time_limits",
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-rfE", "--color=no", *plugins, "-n", "1", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = run.stdout + run.stderr
    assert run.returncode == 1, said
    for name in (
        "test_in_c_code_that_hears_no_signal",
        "test_whose_loop_keeps_what_the_signal_raises",
        "test_with_a_teardown_that_hangs_after_a_failure",
    ):
        assert f"FAILED test_hangs.py::{name}" in run.stdout, said
        assert f"crashed while running 'test_hangs.py::{name}'" in run.stdout, said
    assert run.stderr.count("Timeout (0:00:0") == 3, "the stacks of each"
    assert "line 9 in test_in_c_code_that_hears_no_signal" in run.stderr, said
    assert "2 passed" in run.stdout, said


def test_a_run_that_hangs_as_a_whole_is_ended_at_its_deadline(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name, text in (
        ("scripts/test", (ROOT / "scripts" / "test").read_text()),
        ("scripts/prepare", "#!/bin/sh\n"),
        (".venv/bin/python", "#!/bin/bash\ntrap 'echo stacks' USR1\nwhile :; do sleep 0.1; done\n"),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    run = subprocess.run(
        [tmp_path / "scripts" / "test"],
        env={**os.environ, "DEADLINE": "1s"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert run.stdout == "stacks\n"


@pytest.mark.timeout(50)
def test_limits_are_those_of_the_marker_or_else_of_the_settings(request: pytest.FixtureRequest) -> None:
    assert timeout_of(request.node) == 50
