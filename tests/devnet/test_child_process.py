"""Child processes: readiness, death, restart, and not outliving their parent."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from gateway.devnet.child_process import Child, ChildFailed, ChildTiming, Ready
from harness.waiting import eventually

SAYS_READY = """
    import os, sys, time
    print('{"given": "%s", "pid": %d}' % (sys.argv[1], os.getpid()), flush=True)
    time.sleep(60)
"""


def script(text: str, *arguments: str) -> Callable[[Ready | None], list[str]]:
    return lambda before: [sys.executable, "-c", textwrap.dedent(text), *arguments]


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.asyncio
async def test_a_child_says_where_it_is_and_ends_when_it_is_told() -> None:
    child = Child("one", script(SAYS_READY, "here"))
    ready = await child.start()
    assert (ready["given"], ready["pid"]) == ("here", child.pid)
    await child.stop()
    await child.stop()
    assert not runs(child.pid)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise SystemExit(3)", "status 3 before it was ready"),
        ("print('hello', flush=True); import time; time.sleep(60)", "did not print a JSON object"),
    ],
)
async def test_a_child_that_does_not_come_up_is_told_and_cleared_away(text: str, words: str) -> None:
    child = Child("two", script(text))
    with pytest.raises(ChildFailed, match=words):
        await child.start()
    assert not runs(child.pid)


@pytest.mark.asyncio
async def test_a_child_that_is_never_ready_is_given_up() -> None:
    child = Child("three", script("import time; time.sleep(60)"), timing=ChildTiming(ready=0.2))
    with pytest.raises(ChildFailed, match="was not ready within"):
        await child.start()
    assert not runs(child.pid)


@pytest.mark.asyncio
async def test_a_child_that_ignores_sigterm_is_killed() -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + textwrap.dedent(SAYS_READY)
    child = Child("four", script(stubborn, "x"), timing=ChildTiming(stop=0.2))
    await child.start()
    began = time.monotonic()
    await child.stop()
    assert time.monotonic() - began < 5
    assert not runs(child.pid)


@pytest.mark.asyncio
async def test_a_child_that_stands_still_is_killed() -> None:
    child = Child("five", script(SAYS_READY, "x"), timing=ChildTiming(stop=0.2))
    await child.start()
    os.kill(child.pid, signal.SIGSTOP)
    await child.stop()
    assert not runs(child.pid)


@pytest.mark.asyncio
async def test_a_child_that_died_is_started_again_with_what_it_said_before() -> None:
    def command(before: Ready | None) -> list[str]:
        return script(SAYS_READY, "first" if before is None else f"again after {before['given']}")(before)

    child = Child("six", command, restart=True)
    await child.start()
    first = child.pid
    try:
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: child.restarts == 1)
        assert child.pid != first
        assert child.ready["given"] == "again after first"
        assert child.ready["pid"] == child.pid
    finally:
        await child.stop()
    assert not runs(child.pid)


@pytest.mark.asyncio
async def test_without_restart_a_child_stays_dead() -> None:
    child = Child("seven", script(SAYS_READY, "x"))
    await child.start()
    os.kill(child.pid, signal.SIGKILL)
    await eventually(lambda: not runs(child.pid))
    await child.stop()
    assert child.restarts == 0


@pytest.mark.asyncio
async def test_flags_in_the_environment_do_not_reach_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LP_EFFECT", "grey")
    tells = "import json, os, time; print(json.dumps(dict(os.environ)), flush=True); time.sleep(60)"
    child = Child("eight", script(tells))
    ready = await child.start()
    await child.stop()
    assert "LP_EFFECT" not in ready
    assert ready["PATH"] == os.environ["PATH"]


PARENT = """
    import asyncio, json, sys, time
    from gateway.devnet.child_process import Child
    from gateway.aio.tasks import spawn
    WATCHED = '''
    import time
    from gateway.devnet.child_process import die_with_parent
    time.sleep({delay})
    die_with_parent()
    print("{{}}", flush=True)
    time.sleep(60)
    '''.replace("    ", "")
    async def main():
        child = Child("watched", lambda before: [sys.executable, "-c", WATCHED])
        starting = spawn(child.start(), name="starting")
        while not child.launched:
            await asyncio.sleep(0.01)
        {wait}
        print(json.dumps({{"child": child.pid}}), flush=True)
        await asyncio.sleep(60)
    asyncio.run(main())
"""


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("delay", "wait"),
    [
        pytest.param("0", "await starting", id="when it runs"),
        pytest.param("1", "pass", id="before it could watch its parent"),
    ],
)
async def test_a_child_dies_with_a_parent_that_is_killed(delay: str, wait: str) -> None:
    text = textwrap.dedent(PARENT).format(delay=delay, wait=wait)
    parent = Child("parent", script(text))
    grandchild = (await parent.start())["child"]
    assert runs(grandchild)
    os.kill(parent.pid, signal.SIGKILL)
    await eventually(lambda: not runs(grandchild))
    await parent.stop()


@pytest.mark.asyncio
async def test_a_child_may_be_found_ready_in_another_way_and_write_its_errors_to_a_file(
    tmp_path: Path,
) -> None:
    tells = "import os, sys, time; print(os.environ['KIND'], file=sys.stderr, flush=True); time.sleep(60)"
    log = tmp_path / "log"

    async def has_written(process: asyncio.subprocess.Process) -> Ready:
        await eventually(lambda: log.exists() and log.read_text())
        return {"at": process.pid}

    child = Child(
        *("nine", script(tells)),
        when_ready=has_written,
        environment={"KIND": "engine"},
        stop_signal=signal.SIGINT,
        log_file=log,
    )
    ready = await child.start()
    assert (ready["at"], log.read_text()) == (child.pid, "engine\n")
    await child.stop()
    assert not runs(child.pid)
