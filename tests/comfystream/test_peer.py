"""A connection to a server, with a real one: losses on both ways, long messages, key frames, ends."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import structlog

from gateway.aio import tasks
from gateway.comfystream.errors import ComfyStreamError, NoAnswer, TooMany
from gateway.comfystream.peer import MAX_ANSWER, ServerPeer
from gateway.comfystream.prompts import Wanted
from gateway.comfystream.timing import DEFAULT_TIMING, ServerTiming
from gateway.devnet.comfystream.server import ComfyStream, ComfyStreamConfig
from gateway.media.frames import TICKS_PER_SECOND, AccessUnit, Frame
from gateway.media.h264 import split_annex_b
from gateway.webrtc.config import WebRtcConfig
from harness.link import Link
from harness.pieces import answering_in_pieces
from harness.waiting import eventually
from harness.webrtc import FPS, encoded_pattern

LOG = structlog.get_logger("test")
MAX_WAITED_FOR = 128
"""Packets that aiortc keeps room for while one is missing."""


def effect(name: str, **inputs: Any) -> dict[str, Any]:
    return {"1": {"class_type": "Effect", "inputs": {"effect": name, **inputs}}}


class Connected:
    """A peer that sends the pattern at its pace, and counts what comes back."""

    def __init__(self, timing: ServerTiming = DEFAULT_TIMING) -> None:
        self.back: list[AccessUnit] = []
        self.texts: list[str] = []
        self.key_frames_asked = 0
        self.peer = ServerPeer(WebRtcConfig(), self._came, self._asked, self.texts.append, LOG, timing)

    async def send(self) -> None:
        units = [split_annex_b(unit) for unit in encoded_pattern()]
        for number in itertools.count():
            pts = number * TICKS_PER_SECOND // FPS
            self.peer.send(AccessUnit(units[number % len(units)], pts, pts, number % FPS == 0))
            await asyncio.sleep(1 / FPS)

    def _came(self, frame: Frame) -> None:
        if isinstance(frame, AccessUnit):
            self.back.append(frame)

    def _asked(self) -> None:
        self.key_frames_asked += 1


@asynccontextmanager
async def connected(
    *prompts: dict[str, Any], link: Link | None = None, timing: ServerTiming = DEFAULT_TIMING
) -> AsyncIterator[Connected]:
    """Connected to a server, where given over `link`."""
    server = ComfyStream(ComfyStreamConfig())
    url = await server.start()
    one = Connected(timing)
    sending: asyncio.Task[None] | None = None
    try:
        async with aiohttp.ClientSession() as http, offers_over(link, http, url) as way:
            await one.peer.connect(http, way, Wanted(list(prompts)), audio=False)
        sending = tasks.spawn(one.send(), name="test pattern")
        yield one
    finally:
        await tasks.cancel(sending)
        await one.peer.close()
        await one.peer.close()
        await server.stop()
        if link is not None:
            link.close()


@asynccontextmanager
async def offers_over(link: Link | None, http: aiohttp.ClientSession, url: str) -> AsyncIterator[str]:
    """A URL for offers whose media goes over the link."""
    if link is None:
        yield url
        return

    async def exchange(body: bytes) -> bytes:
        asked = json.loads(body)
        # nobody is at the discard port: the server answers on the way that it is asked on
        nobody = "a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\na=end-of-candidates"
        asked["offer"]["sdp"] = link.offer(asked["offer"]["sdp"]).replace("a=end-of-candidates", nobody)
        async with http.post(f"{url}/offer", json=asked) as response:
            answer = await response.json()
        answer["sdp"] = await link.answer(answer["sdp"])
        return json.dumps(answer).encode()

    async with answering_in_pieces(exchange) as way:
        yield way


@pytest.mark.asyncio
async def test_pictures_come_back_with_rising_times_and_key_frames_when_asked() -> None:
    async with connected(effect("negative")) as one:
        await eventually(lambda: len(one.back) > 30, what="pictures")
        assert one.back[0].key
        assert all(a.pts < b.pts for a, b in itertools.pairwise(one.back))
        keys = sum(unit.key for unit in one.back)

        def another() -> bool:
            one.peer.request_key_frame()
            return sum(unit.key for unit in one.back) > keys

        await eventually(another, what="a key frame that was asked for")


@pytest.mark.asyncio
async def test_what_is_lost_on_either_way_is_sent_again() -> None:
    link = Link(seed=1)
    async with connected(effect("negative"), link=link) as one:
        link.loss = 0.05
        await eventually(lambda: len(one.back) > 90, what="pictures over a way that loses 5 %")
        sent, received = one.peer.sent(), one.peer.received()
        assert sent is not None
        assert received is not None
        assert link.lost > 0
        assert sent.resent > 0
        assert received.damaged_frames == 0


@pytest.mark.asyncio
async def test_a_server_that_cannot_decode_gets_a_key_frame_asked_for() -> None:
    link = Link(seed=1)
    async with connected(effect("negative"), link=link) as one:
        await eventually(lambda: len(one.back) > 10, what="pictures")
        link.loss = 1.0
        for number in range(2 * MAX_WAITED_FOR):
            one.peer.send(AccessUnit([b"\x41" + bytes(100)], number, number, False))
        await eventually(lambda: link.lost > MAX_WAITED_FOR, what="the loss of all of them")
        link.loss = 0.0
        await eventually(lambda: one.key_frames_asked > 0, what="the server's request")


@pytest.mark.asyncio
async def test_workflows_much_longer_than_a_packet_are_taken_and_shown() -> None:
    long = effect("grey", note="x" * 60_000)
    async with connected(effect("negative")) as one:
        request = {"type": "update_prompts", "prompts": [long]}
        assert await one.peer.request(request) == {"type": "prompts_updated", "success": True}
        answer = await one.peer.request({"type": "get_nodes"})
        assert answer["nodes"]["0"]["1"]["inputs"]["note"]["value"] == "x" * 60_000


@pytest.mark.asyncio
async def test_messages_are_answered_in_order_and_only_so_many_wait() -> None:
    async with connected(effect("negative"), timing=ServerTiming(answer_timeout=0.3)) as one:
        await one.peer.request({"type": "get_nodes"})
        with pytest.raises(NoAnswer, match="no answer to 'dance'"):
            await one.peer.request({"type": "dance"})
        asked = [one.peer.request({"type": "get_nodes"}) for _ in range(9)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(one) for one in outcomes] == [dict] * 8 + [TooMany]


@pytest.mark.asyncio
async def test_an_answer_that_comes_in_pieces_is_read_to_its_end() -> None:
    server = ComfyStream(ComfyStreamConfig())
    url = await server.start()
    one = Connected()
    async with aiohttp.ClientSession() as http:

        async def ask(offer: bytes) -> bytes:
            headers = {"Content-Type": "application/json"}
            async with http.post(f"{url}/offer", data=offer, headers=headers) as response:
                return b" " * 4000 + await response.read()

        async with answering_in_pieces(ask) as cut:
            await one.peer.connect(http, cut, Wanted(), audio=False)
    await one.peer.close()
    await server.stop()


@pytest.mark.asyncio
async def test_an_answer_that_is_too_large_is_refused() -> None:
    one = Connected()
    async with aiohttp.ClientSession() as http, answering_in_pieces(b" " * (MAX_ANSWER + 1)) as url:
        with pytest.raises(ComfyStreamError, match=f"over {MAX_ANSWER} bytes"):
            await one.peer.connect(http, url, Wanted(), audio=False)
    await one.peer.close()


@pytest.mark.asyncio
async def test_a_refusal_and_a_senseless_answer_have_a_reason() -> None:
    server = ComfyStream(ComfyStreamConfig())
    url = await server.start()
    async with aiohttp.ClientSession() as http:
        for wanted, base, words in [
            (Wanted([effect("loud")]), url, "refused the offer: 500 .*in trouble"),
            (Wanted(), f"{url}/nowhere", "refused the offer: 404"),
            (Wanted(), "http://127.0.0.1:9", "cannot be reached"),
        ]:
            one = Connected()
            with pytest.raises(ComfyStreamError, match=f"(?s){words}"):
                await one.peer.connect(http, base, wanted, audio=False)
            await one.peer.close()
    await server.stop()
