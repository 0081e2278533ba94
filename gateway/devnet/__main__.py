"""`livepeer-devnet`: runs the whole devnet, or one of its parts alone."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from gateway.devnet.child_process import die_with_parent
from gateway.devnet.parts import COMMON_FLAGS, PARTS
from gateway.devnet.settings import DEVNET_FLAGS, DevnetSettings
from gateway.flag_text import help_text
from gateway.flags import PATH, Flag, FlagError, HelpRequested, Parsed, parse_flags

PROGRAM = "livepeer-devnet"
ALL_FLAGS: tuple[Flag, ...] = (
    *DEVNET_FLAGS,
    Flag(
        "dataDir", PATH, None, "Write keys and the effective aiModels.json to this folder", "a temporary one"
    ),
    *COMMON_FLAGS,
)

Running = tuple[dict[str, Any], Callable[[], Awaitable[None]]]


def main() -> None:
    die_with_parent()
    sys.exit(_main(sys.argv[1:]))


def _main(argv: Sequence[str]) -> int:
    """Run until SIGINT or SIGTERM; returns the exit status."""
    part = PARTS.get(argv[0]) if argv else None
    program = PROGRAM if part is None else f"{PROGRAM} {part.name}"
    flags = ALL_FLAGS if part is None else part.flags
    try:
        parsed = parse_flags(flags, argv if part is None else argv[1:], os.environ, program=program)
        if part is not None:
            return _run(parsed, part.start(parsed))
        settings = DevnetSettings.from_parsed(parsed)
        if settings.gateways > 1:
            raise FlagError("-gateways is for livepeer-gateway -devnet: there are no gateways here")
        return _run(parsed, _start_devnet(settings, parsed))
    except HelpRequested:
        print(_help(program, flags))  # noqa: T201
        return 0
    except FlagError as error:
        print(f"{program}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except OSError as error:
        print(f"{program}: cannot start: {error}", file=sys.stderr)  # noqa: T201
        return 1


async def _start_devnet(settings: DevnetSettings, parsed: Parsed) -> Running:
    from gateway.devnet.devnet import Devnet

    given: Path | None = parsed["dataDir"]
    folder = given or Path(tempfile.mkdtemp(prefix="livepeer-devnet-"))
    log_flags = (f"-v={parsed['v']}", f"-logFormat={parsed['logFormat']}")
    devnet = Devnet(settings, folder, log_flags=log_flags)

    async def stop() -> None:
        await devnet.stop()
        if given is None:
            shutil.rmtree(folder, ignore_errors=True)

    try:
        return await devnet.start(), stop
    except BaseException:
        await stop()
        raise


def _run(parsed: Parsed, starting: Coroutine[Any, Any, Running]) -> int:
    from gateway.aio import event_loop
    from gateway.telemetry import log

    log.configure(parsed["v"], parsed["logFormat"])
    event_loop.run(_until_signal(starting))
    return 0


async def _until_signal(starting: Coroutine[Any, Any, Running]) -> None:
    stop_wanted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop_wanted.set)
    gc.disable()  # while a part imports its modules; looking for garbage would take a tenth more
    try:
        ready, stop = await starting
    finally:
        gc.enable()
    try:
        print(json.dumps(ready), flush=True)  # noqa: T201
        await stop_wanted.wait()
    finally:
        await stop()


def _help(program: str, flags: Sequence[Flag]) -> str:
    text = help_text(flags, usage=f"usage: {program} [flags]")
    if program != PROGRAM:
        return text
    parts = "\n".join(f"  {PROGRAM} {part.name:14}{part.help}" for part in PARTS.values())
    return f"{text}\n\nEach part alone, with flags of its own (see its -help):\n{parts}"


if __name__ == "__main__":
    main()
