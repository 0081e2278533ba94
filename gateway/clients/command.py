"""What the three commands have in common: their flags, and the line at their end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import aiohttp
from yarl import URL

from gateway.aio.tasks import spawn
from gateway.clients.session import ClientFailed
from gateway.flag_text import help_text
from gateway.flags import (
    BOOLEAN,
    POSITIVE_DURATION,
    TEXT,
    Flag,
    FlagError,
    HelpRequested,
    Kind,
    Parsed,
    parse_flags,
)

TOKEN = Flag(
    "token", Kind("text", "any text", str, secret=True), None, "Send this token, as -publishTokens has it"
)
DURATION = Flag("duration", POSITIVE_DURATION, None, "Stop after this time", "at the end, or at Ctrl-C")
JSON = Flag("json", BOOLEAN, "false", "Print no progress, only the JSON line at the end")
PARAMS = Flag("params", TEXT, None, "Start the worker with these parameters, a JSON object", "none")
PIPELINE = Flag("pipeline", TEXT, None, "Ask for this model or app", "the gateway's own")
PROGRESS_EVERY = 2.0
"""Seconds between two lines of progress."""

Result = dict[str, Any]
Run = Callable[[Sequence[str], Parsed], Coroutine[Any, Any, Result]]


def main(
    program: str, arguments: Sequence[str], flags: Sequence[Flag], argv: Sequence[str], run: Run, words: str
) -> int:
    """Read the arguments, which come first, and the flags; run; print the result as a line of JSON.

    Exit status 0 where the result is `ok`, 1 where it is not or the command cannot go on, 2 for bad usage.
    """
    usage = f"usage: {program} {' '.join(arguments)} [flags]\n\n{words}"
    given, rest = list(argv[: len(arguments)]), argv[len(arguments) :]
    try:
        if any(word.lstrip("-") in ("h", "help") for word in argv):
            raise HelpRequested
        if len(given) < len(arguments) or any(word.startswith("-") and word != "-" for word in given):
            raise FlagError(f"it takes {' '.join(arguments)} first, and flags after them (see -help)")
        parsed = parse_flags(flags, rest, os.environ, program=program)
    except HelpRequested:
        print(help_text(flags, usage=usage))  # noqa: T201
        return 0
    except FlagError as error:
        print(f"{program}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    result = asyncio.run(_until_signalled(_said(run, given, parsed)))
    # stdout may be the stream itself
    print(json.dumps(result), file=sys.stderr if "-" in (parsed.values.get("o"),) else sys.stdout)
    return 0 if result["ok"] else 1


async def _said(run: Run, given: Sequence[str], parsed: Parsed) -> Result:
    try:
        return await run(given, parsed)
    except ClientFailed as error:
        return {"ok": False, "error": str(error)}


async def _until_signalled(work: Coroutine[Any, Any, Result]) -> Result:
    """Ctrl-C ends a command as its own end does: the session is deleted, the line is printed."""
    task: asyncio.Task[Result] = spawn(work, name="command")
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def headers(parsed: Parsed) -> dict[str, str]:
    return {} if parsed["token"] is None else {"Authorization": f"Bearer {parsed['token']}"}


def with_query(url: URL, parsed: Parsed) -> URL:
    """The URL of a publish with what its flags ask for."""
    asked = {name: parsed[name] for name in ("params", "pipeline") if parsed.values.get(name)}
    return url.update_query(asked) if asked else url


def url_of(text: str, ending: str) -> URL:
    """A URL from the command line. Raises ClientFailed."""
    url = URL(text)
    if url.scheme not in ("http", "https") or not url.host:
        raise ClientFailed(f"{text!r} is no URL: it takes http://HOST:PORT/live/video-to-video/NAME/{ending}")
    return url


async def status_of(http: aiohttp.ClientSession, url: URL, given: Mapping[str, str]) -> dict[str, Any]:
    """The gateway's status of the stream that is published or watched at `url`; empty where it gives none."""
    try:
        asked = url.with_query(None).parent / "status"
        async with asyncio.timeout(PROGRESS_EVERY), http.get(asked, headers=given) as response:
            answer = await response.json(content_type=None)
        return dict(answer["gateway_status"])
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
        return {}


class Progress:
    """A line on stderr every few seconds."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._next = time.monotonic() + PROGRESS_EVERY

    @property
    def due(self) -> bool:
        return not self._quiet and time.monotonic() >= self._next

    def show(self, *parts: str) -> None:
        self._next = time.monotonic() + PROGRESS_EVERY
        print("  ".join(filter(None, parts)), file=sys.stderr, flush=True)  # noqa: T201


def cost_words(status: Mapping[str, Any]) -> str:
    """What a stream has cost, for a line of progress; empty where nothing is paid."""
    payments = status.get("payments")
    if not payments:
        return ""
    return f"cost {int(payments['credited_wei']) / 10**18:.6f} ETH"
