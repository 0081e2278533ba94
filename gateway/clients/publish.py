"""`livepeer-gateway publish SOURCE WHIP_URL`: a file or a stream as a publisher."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import aiohttp

from gateway.clients import command
from gateway.clients.session import ClientFailed, connected, peer_connection, send_h264, session
from gateway.clients.source import MediaSource
from gateway.flags import BOOLEAN, Flag, Parsed

PROGRAM = "livepeer-gateway publish"
FLAGS = (
    Flag("loop", BOOLEAN, "false", "Begin the file anew at its end"),
    command.DURATION,
    command.TOKEN,
    command.PARAMS,
    command.PIPELINE,
    command.JSON,
)
WORDS = "Publishes a file, a URL that FFmpeg reads (rtmp://..), or - for stdin, to a WHIP server."
CONNECTING = 15.0
POLL = 0.1


def main(argv: Sequence[str]) -> int:
    return command.main(PROGRAM, ("SOURCE", "WHIP_URL"), FLAGS, argv, run, WORDS)


async def run(arguments: Sequence[str], parsed: Parsed) -> command.Result:
    """Publish until the source or the time ends."""
    name, url = arguments[0], command.url_of(arguments[1], "whip")
    given, began = command.headers(parsed), time.monotonic()
    source, peer = MediaSource(name, loop=parsed["loop"]), peer_connection()
    send_h264(peer, source.video)
    if source.audio is not None:
        peer.addTransceiver(source.audio, direction="sendonly")
    status: dict[str, object] = {}
    try:
        async with (
            aiohttp.ClientSession() as http,
            session(http, command.with_query(url, parsed), peer, given),
        ):
            source.start()
            await connected(peer, CONNECTING)
            progress = command.Progress(parsed["json"])
            until = None if parsed["duration"] is None else time.monotonic() + parsed["duration"]
            try:
                while source.video.readyState == "live" and (until is None or time.monotonic() < until):
                    if peer.connectionState != "connected":
                        raise ClientFailed("the server closed the connection")
                    if progress.due:
                        status = await command.status_of(http, url, given) or status
                        ingest = status.get("ingest") or {}
                        fps = (
                            f"{ingest['fps']:.1f} fps"
                            if isinstance(ingest, dict) and ingest.get("fps")
                            else ""
                        )
                        progress.show(str(status.get("state", "")), fps, command.cost_words(status))
                    await asyncio.sleep(POLL)
            except asyncio.CancelledError:
                pass
            status = await command.status_of(http, url, given) or status
    finally:
        await source.close()
    if source.failure:
        raise ClientFailed(f"{name} cannot be read on: {source.failure}")
    payments = status.get("payments") or {}
    return {
        "ok": True,
        "seconds": round(time.monotonic() - began, 1),
        "pictures": source.video.given,
        "state": status.get("state"),
        "credited_wei": payments.get("credited_wei") if isinstance(payments, dict) else None,
    }
