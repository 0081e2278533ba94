"""`livepeer-gateway smoke URL`: publishes a test picture, and checks that it comes back changed."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
from yarl import URL

from gateway.aio.tasks import cancel, spawn
from gateway.clients import command
from gateway.clients.pattern import PatternTrack, encoded_pattern, picture
from gateway.clients.pictures import Pictures, brightness
from gateway.clients.session import ClientFailed, connected, peer_connection, send_h264, session
from gateway.flags import BOOLEAN, POSITIVE_DURATION, Flag, Parsed

PROGRAM = "livepeer-gateway smoke"
FLAGS = (
    Flag("duration", POSITIVE_DURATION, "5s", "Watch for this long after the first picture"),
    Flag("wait", POSITIVE_DURATION, "30s", "Wait this long for the first picture"),
    Flag("anyPicture", BOOLEAN, "false", "Pass where pictures come back as they were, too"),
    command.TOKEN,
    command.PARAMS,
    command.PIPELINE,
    command.JSON,
)
WORDS = (
    "Publishes a test picture to a gateway (its address, or a WHIP URL), watches the result, and\n"
    "checks that it comes back changed. For a few seconds of stream it costs what a stream's start costs."
)
WIDTH, HEIGHT = 640, 360
CONNECTING = 15.0
POLL = 0.05
ENOUGH = 0.5
"""Of the pictures have to be changed: the first ones may come from before the worker is warm."""


def main(argv: Sequence[str]) -> int:
    return command.main(PROGRAM, ("URL",), FLAGS, argv, run, WORDS)


async def run(arguments: Sequence[str], parsed: Parsed) -> command.Result:
    """Publish and watch for some seconds. `ok` says whether changed pictures came back."""
    url, given = _whip_url(arguments[0]), command.headers(parsed)
    sent = brightness(picture(WIDTH, HEIGHT, 0.5))
    pictures, began = Pictures(sent), time.monotonic()
    publisher, viewer = peer_connection(), peer_connection()
    send_h264(publisher, PatternTrack(encoded_pattern(WIDTH, HEIGHT)))
    viewer.addTransceiver("video", direction="recvonly")
    watching: list[asyncio.Task[None]] = []
    viewer.on("track", lambda track: watching.append(spawn(pictures.take(track), name="smoke pictures")))
    progress, status = command.Progress(parsed["json"]), dict[str, Any]()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        stack.push_async_callback(lambda: cancel(*watching))
        published = await stack.enter_async_context(
            session(http, command.with_query(url, parsed), publisher, given)
        )
        whep = published.playback or url.with_query(None).parent / "whep"
        await stack.enter_async_context(session(http, whep, viewer, given))
        await asyncio.gather(connected(publisher, CONNECTING), connected(viewer, CONNECTING))
        try:
            while (now := time.monotonic()) < began + parsed["wait"] or pictures.first_at is not None:
                if pictures.first_at is not None and now >= pictures.first_at + parsed["duration"]:
                    break
                if progress.due:
                    status = await command.status_of(http, url, given) or status
                    progress.show(str(status.get("state", "")), f"{pictures.count} pictures")
                await asyncio.sleep(POLL)
        except asyncio.CancelledError:
            pass
        status = await command.status_of(http, url, given) or status
    return _result(pictures, began, status, any_picture=parsed["anyPicture"])


def _result(pictures: Pictures, began: float, status: dict[str, Any], *, any_picture: bool) -> command.Result:
    changed = pictures.changed > ENOUGH * pictures.count
    error = status.get("error") or {}
    why = ""
    if not pictures.count:
        why = str(error.get("error_message") or f"no picture came back; the stream is {status.get('state')}")
    elif not changed and not any_picture:
        why = "pictures come back as they were"
    payments, orchestrator = status.get("payments") or {}, status.get("orchestrator") or {}
    return {
        "ok": not why,
        **({"error": why} if why else {}),
        "changed": changed,
        "pictures": pictures.count,
        "fps": round(pictures.fps, 1),
        "first_picture_s": None if pictures.first_at is None else round(pictures.first_at - began, 2),
        "longest_gap_s": round(pictures.longest_gap, 2),
        "orchestrator": orchestrator.get("url"),
        "credited_wei": payments.get("credited_wei"),
    }


def _whip_url(text: str) -> URL:
    """A WHIP URL as it is; of a gateway's address that of a stream with a name of its own."""
    url = command.url_of(text, "whip")
    if url.path.endswith("/whip"):
        return url
    if url.path not in ("", "/"):
        raise ClientFailed(f"{text!r} is neither a gateway's address nor a WHIP URL")
    return url.with_path(f"/live/video-to-video/smoke-{secrets.token_hex(8)}/whip")
