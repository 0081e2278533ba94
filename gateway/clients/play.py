"""`livepeer-gateway play WHEP_URL`: watches, counts, and writes to a file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import aiohttp
from aiortc import MediaStreamTrack, RTCPeerConnection
from aiortc.contrib.media import MediaRelay

from gateway.aio.tasks import cancel, spawn
from gateway.clients import command
from gateway.clients.pictures import Pictures
from gateway.clients.recorder import Recorder
from gateway.clients.session import connected, peer_connection, session
from gateway.flags import TEXT, Flag, Parsed

PROGRAM = "livepeer-gateway play"
FLAGS = (
    Flag("o", TEXT, None, "Write to this file, by its ending; - is MPEG-TS to stdout", "nowhere"),
    command.DURATION,
    command.TOKEN,
    command.JSON,
)
WORDS = "Watches a WHEP server, also before there is a publisher, and says what comes."
CONNECTING = 15.0
POLL = 0.1


def main(argv: Sequence[str]) -> int:
    return command.main(PROGRAM, ("WHEP_URL",), FLAGS, argv, run, WORDS)


async def run(arguments: Sequence[str], parsed: Parsed) -> command.Result:
    """Watch until the server or the time ends it. Not `ok` where no picture came."""
    url, given, began = command.url_of(arguments[0], "whep"), command.headers(parsed), time.monotonic()
    pictures, relay, peer = Pictures(), MediaRelay(), peer_connection()
    recorder = None if parsed["o"] is None else Recorder(parsed["o"])
    watching: list[asyncio.Task[None]] = []

    def on_track(track: MediaStreamTrack) -> None:
        if track.kind == "video":
            watching.append(spawn(pictures.take(relay.subscribe(track)), name="play pictures"))
        if recorder is not None:
            watching.append(spawn(recorder.take(relay.subscribe(track)), name="play recorder"))

    peer.on("track", on_track)
    for kind in ("video", "audio"):
        peer.addTransceiver(kind, direction="recvonly")
    try:
        async with aiohttp.ClientSession() as http, session(http, url, peer, given):
            await connected(peer, CONNECTING)
            await _watch(pictures, peer, watching, parsed)
    finally:
        await cancel(*watching)
        if recorder is not None:
            recorder.close()
    return {
        "ok": pictures.count > 0,
        "pictures": pictures.count,
        "fps": round(pictures.fps, 1),
        "width": pictures.size[0],
        "height": pictures.size[1],
        "first_picture_s": None if pictures.first_at is None else round(pictures.first_at - began, 2),
        "longest_gap_s": round(pictures.longest_gap, 2),
    }


async def _watch(
    pictures: Pictures, peer: RTCPeerConnection, tasks: Sequence[asyncio.Task[None]], parsed: Parsed
) -> None:
    progress = command.Progress(parsed["json"])
    until = None if parsed["duration"] is None else time.monotonic() + parsed["duration"]
    try:
        while peer.connectionState == "connected" and (until is None or time.monotonic() < until):
            for task in tasks:
                if task.done():
                    task.result()
            if progress.due:
                progress.show(f"{pictures.count} pictures", f"{pictures.fps:.1f} fps")
            await asyncio.sleep(POLL)
    except asyncio.CancelledError:
        return
