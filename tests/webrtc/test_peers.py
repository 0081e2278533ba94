from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import av
import pytest
import structlog
from aiortc import MediaStreamTrack, RTCPeerConnection
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError
from typing_extensions import override

from gateway.aio import tasks
from gateway.media.frames import AccessUnit, Frame, OpusPacket
from gateway.media.rtp_h264 import packetize
from gateway.webrtc import peer
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.errors import ConnectFailed, OfferRefused
from gateway.webrtc.negotiation import Negotiation
from gateway.webrtc.publisher import Publisher
from gateway.webrtc.srtp import Packet
from gateway.webrtc.transport import SecureTransport
from gateway.webrtc.viewer import Viewer
from harness.ice import Cable
from harness.waiting import DEADLINE, eventually
from tests.webrtc.loopback import (
    CodedTrack,
    aiortc_client,
    coded_pictures,
    nals_of,
    offer_of,
    open_descriptors,
    take_answer,
)

CONFIG = WebRtcConfig(handshake_timeout=8.0)
log = structlog.get_logger()


class LossyTransport(SecureTransport):
    """Loses each tenth packet that it sends, once, and received ones by their count; notes the RTCP sent."""

    def __init__(
        self, negotiation: Negotiation, *, loses: Callable[[int], bool] = lambda seen: False
    ) -> None:
        super().__init__(CONFIG, negotiation, on_rtp=self._rtp, on_rtcp=self._rtcp, log=log)
        self.lost: set[bytes] = set()
        self.seen = 0
        self.sent_rtcp: list[bytes] = []
        self._first: bytes | None = None
        self._loses = loses
        self._peer: peer.Peer | None = None

    def take_packets_for(self, receiver: peer.Peer) -> None:
        self._peer = receiver

    def _rtp(self, data: bytes) -> None:
        self.seen += 1
        if self._peer is not None and not self._loses(self.seen):
            self._peer.on_rtp(data)

    def _rtcp(self, data: bytes) -> None:
        if self._peer is not None:
            self._peer.on_rtcp(data)

    @override
    def send_rtcp(self, packet: bytes) -> None:
        self.sent_rtcp.append(packet)
        super().send_rtcp(packet)

    @override
    def send_rtp(self, packets: Sequence[Packet]) -> None:
        # Once each, as aiortc asks for a packet but once, and never the first, which it cannot miss.
        numbers = [header[2:4] for header, _ in packets]
        self._first = self._first or numbers[0]
        dropped = {number for number in numbers if int.from_bytes(number, "big") % 10 == 0}
        dropped -= self.lost | {self._first}
        self.lost.update(dropped)
        super().send_rtp([packet for packet in packets if packet[0][2:4] not in dropped])


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """No task, descriptor or peer more than before."""
    tasks_before, open_before, peers_before = asyncio.all_tasks(), open_descriptors(), set(peer.live)
    yield
    # aiortc's clients end some of their tasks in the next turns of the loop.
    await eventually(lambda: asyncio.all_tasks() == tasks_before)
    assert open_descriptors() == open_before
    assert peer.live == peers_before


async def publish(client: RTCPeerConnection, sink: Callable[[Frame], None], **config: Any) -> Publisher:
    publisher = await Publisher.answer_offer(
        await offer_of(client), config=WebRtcConfig(**config) if config else CONFIG, sink=sink, log=log
    )
    await take_answer(client, publisher.answer)
    await publisher.connect()
    return publisher


async def watch(client: RTCPeerConnection, *, audio: bool = False) -> tuple[Viewer, list[MediaStreamTrack]]:
    tracks: list[MediaStreamTrack] = []
    client.on("track", tracks.append)
    client.addTransceiver("video", direction="recvonly")
    if audio:
        client.addTransceiver("audio", direction="recvonly")
    viewer = await Viewer.answer_offer(await offer_of(client), config=CONFIG, log=log)
    await take_answer(client, viewer.answer)
    await viewer.connect()
    return viewer, tracks


@pytest.mark.asyncio
async def test_pictures_arrive_as_they_were_published_and_nothing_is_left() -> None:
    async with nothing_left():
        frames: list[Frame] = []
        client, track = aiortc_client(), CodedTrack(coded_pictures(30))
        client.addTrack(track)
        publisher = await publish(client, frames.append)
        await eventually(lambda: len(frames) >= 40)
        await eventually(lambda: 20 < publisher.stats().fps < 40)
        stats = publisher.stats()
        await client.close()
        assert "close_notify" in await asyncio.wait_for(publisher.wait_closed(), DEADLINE)
        await publisher.close()
        await publisher.close()

    units = [frame for frame in frames if isinstance(frame, AccessUnit)]
    assert units[0].key
    first = track.sent.index(units[0].nals)
    assert [unit.nals for unit in units] == track.sent[first : first + len(units)]
    assert {later.pts - unit.pts for unit, later in pairwise(units)} == {3000}
    assert [unit.dts for unit in units] == [unit.pts for unit in units]
    assert (stats.codec, stats.width, stats.height) == ("H264", 320, 180)
    assert stats.gop_s == 0.5
    assert stats.bitrate_bps > 50_000
    assert stats.packets_lost == stats.damaged_frames == 0
    assert stats.last_media_at is not None
    assert time.monotonic() - stats.last_media_at < 10


@pytest.mark.asyncio
async def test_sound_lies_on_the_time_line_of_the_pictures() -> None:
    async with nothing_left():
        frames: list[Frame] = []
        client = aiortc_client()
        client.addTrack(AudioStreamTrack())
        client.addTrack(CodedTrack(coded_pictures(30)))
        publisher = await publish(client, frames.append)
        await eventually(lambda: sum(isinstance(frame, OpusPacket) for frame in frames) >= 60)
        await client.close()
        await publisher.close()
    assert isinstance(frames[0], AccessUnit)
    sound = [frame.pts for frame in frames if isinstance(frame, OpusPacket)]
    assert sound == sorted(set(sound))
    for before, frame in pairwise(frames):
        if isinstance(before, AccessUnit) and isinstance(frame, OpusPacket):
            assert abs(frame.pts - before.pts) < 90_000


@pytest.mark.asyncio
async def test_from_publisher_through_the_gateway_to_a_viewer_that_decodes() -> None:
    async with nothing_left():
        publishing, watching = aiortc_client(), aiortc_client()
        viewers: list[Viewer] = []

        def relay(frame: Frame) -> None:
            for viewer in viewers:
                if isinstance(frame, AccessUnit):
                    viewer.send_video(packetize(frame.nals), frame.pts, frame.key)

        publishing.addTrack(CodedTrack(coded_pictures(30)))
        publisher = await publish(publishing, relay)
        viewer, tracks = await watch(watching, audio=True)
        viewers.append(viewer)
        (track,) = [track for track in tracks if track.kind == "video"]
        shown = [await asyncio.wait_for(track.recv(), 40) for _ in range(20)]
        await eventually(lambda: viewer.stats().fraction_lost == 0.0)
        await watching.close()
        assert "close_notify" in await asyncio.wait_for(viewer.wait_closed(), DEADLINE)
        await publishing.close()
        await viewer.close()
        await publisher.close()
    for frame in shown:
        assert isinstance(frame, av.VideoFrame)
        assert (frame.width, frame.height) == (320, 180)
    times = [frame.pts for frame in shown if frame.pts is not None]
    assert times == sorted(times)


@pytest.mark.asyncio
async def test_a_viewer_gets_what_it_lost_and_a_burst_is_spread_out() -> None:
    async with nothing_left():
        client = aiortc_client()
        tracks: list[MediaStreamTrack] = []
        client.on("track", tracks.append)
        client.addTransceiver("video", direction="recvonly")
        negotiation = Negotiation.of(await offer_of(client), publishing=False)
        transport = LossyTransport(negotiation)
        viewer = Viewer(negotiation, CONFIG, log, transport=transport)
        await viewer.open()
        await take_answer(client, viewer.answer)
        transport.take_packets_for(viewer)
        await viewer.connect()
        (track,) = tracks
        for number, packet in enumerate(coded_pictures(60, gop=60)):
            viewer.send_video(packetize(nals_of(packet)), number * 3000, number == 0)
            if number > 20:
                # aiortc lets a picture out only when a packet comes, one a packet.
                await asyncio.sleep(0.01)
        shown = [await asyncio.wait_for(track.recv(), 40) for _ in range(40)]
        assert len(shown) == 40
        assert viewer.stats().resent >= len(transport.lost) - 1
        assert not viewer.congested()
        await client.close()
        await viewer.close()


@pytest.mark.asyncio
async def test_an_endless_backlog_counts_as_congestion() -> None:
    async with nothing_left():
        client = aiortc_client()
        viewer, _ = await watch(client)
        viewer.send_video([b"\x41" + bytes(1000)] * 6000, 0, False)
        assert viewer.congested()
        await viewer.close()
        await client.close()
        await viewer.close()


@pytest.mark.asyncio
async def test_lost_packets_are_asked_for_again() -> None:
    async with nothing_left():
        frames: list[Frame] = []
        client, track = aiortc_client(), CodedTrack(coded_pictures(30, size=(640, 360)))
        client.addTrack(track)
        negotiation = Negotiation.of(await offer_of(client), publishing=True)
        transport = LossyTransport(negotiation, loses=lambda seen: seen % 20 == 0)
        publisher = Publisher(negotiation, CONFIG, frames.append, log, transport=transport)
        await publisher.open()
        transport.take_packets_for(publisher)
        await take_answer(client, publisher.answer)
        await publisher.connect()
        await eventually(lambda: len(frames) >= 60)
        stats = publisher.stats()
        await client.close()
        await publisher.close()
    units = [frame.nals for frame in frames if isinstance(frame, AccessUnit)]
    assert transport.seen > 100
    assert stats.packets_lost == stats.damaged_frames == 0
    first = track.sent.index(units[0])
    assert units == track.sent[first : first + len(units)]


@pytest.mark.asyncio
async def test_a_key_frame_is_asked_for_where_nothing_helps() -> None:
    async with nothing_left():
        frames: list[Frame] = []
        client = aiortc_client()
        # Only the very first picture can be decoded, and it is lost.
        client.addTrack(CodedTrack(coded_pictures(100, gop=1000)))
        negotiation = Negotiation.of(await offer_of(client), publishing=True)
        transport = LossyTransport(negotiation, loses=lambda seen: seen == 1)
        publisher = Publisher(negotiation, CONFIG, frames.append, log, transport=transport)
        await publisher.open()
        transport.take_packets_for(publisher)
        sent = transport.sent_rtcp
        await take_answer(client, publisher.answer)
        await publisher.connect()
        await eventually(lambda: any(packet[:2] == b"\x81\xce" for packet in sent))
        publisher.request_key_frame()
        publisher.request_key_frame()
        assert sum(packet[:2] == b"\x81\xce" for packet in sent) == 1
        assert not frames
        await client.close()
        await publisher.close()


@pytest.mark.asyncio
async def test_a_peer_that_never_comes_fails_with_what_to_open_and_leaves_nothing() -> None:
    async with nothing_left():
        client = aiortc_client()
        client.addTrack(CodedTrack(coded_pictures(1)))
        offer = await offer_of(client)
        await client.close()
        config = WebRtcConfig(handshake_timeout=0.3)
        publisher = await Publisher.answer_offer(offer, config=config, sink=lambda frame: None, log=log)
        with pytest.raises(ConnectFailed, match=r"127\.0\.0\.1:\d+.*let UDP"):
            await publisher.connect()
        await publisher.close()


@pytest.mark.asyncio
async def test_a_peer_may_be_closed_while_it_connects_or_before() -> None:
    async with nothing_left():
        client = aiortc_client()
        client.addTrack(CodedTrack(coded_pictures(1)))
        offer = await offer_of(client)
        await client.close()
        for _ in range(2):
            publisher = await Publisher.answer_offer(offer, config=CONFIG, sink=lambda frame: None, log=log)
            connecting = tasks.spawn(publisher.connect(), name="test connect")
            await asyncio.sleep(0)
            await publisher.close()
            (result,) = await asyncio.gather(connecting, return_exceptions=True)
            assert isinstance(result, ConnectFailed)
        publisher = await Publisher.answer_offer(offer, config=CONFIG, sink=lambda frame: None, log=log)
        await publisher.close()
        assert await publisher.wait_closed() == "closed here"


@pytest.mark.asyncio
async def test_another_certificate_than_the_offers_is_refused_at_once() -> None:
    async with nothing_left():
        client = aiortc_client()
        client.addTrack(CodedTrack(coded_pictures(1)))
        lines = (await offer_of(client)).split("\r\n")
        forged = [
            "a=fingerprint:sha-256 " + ":".join(["00"] * 32) if line.startswith("a=fingerprint") else line
            for line in lines
        ]
        publisher = await Publisher.answer_offer(
            "\r\n".join(forged), config=CONFIG, sink=lambda frame: None, log=log
        )
        await take_answer(client, publisher.answer)
        with pytest.raises(ConnectFailed, match="fingerprint"):
            await publisher.connect()
        await publisher.close()
        await client.close()


@pytest.mark.asyncio
async def test_the_certificate_of_one_of_several_fingerprints_is_taken() -> None:
    async with nothing_left():
        frames: list[Frame] = []
        client = aiortc_client()
        client.addTrack(CodedTrack(coded_pictures(30)))
        offer = await offer_of(client)
        other = "a=fingerprint:sha-256 " + ":".join(["00"] * 32) + "\r\n"
        publisher = await Publisher.answer_offer(
            offer.replace("a=fingerprint:sha-256", other + "a=fingerprint:sha-256"),
            config=CONFIG,
            sink=frames.append,
            log=log,
        )
        await take_answer(client, publisher.answer)
        await publisher.connect()
        await eventually(lambda: len(frames) > 5)
        await client.close()
        await publisher.close()


@pytest.mark.asyncio
async def test_a_silent_peer_is_gone_after_its_time() -> None:
    async with nothing_left():
        client = aiortc_client()
        client.addTrack(CodedTrack(coded_pictures(30)))
        publisher = await publish(client, lambda frame: None, silence_timeout=0.5)
        Cable(client).pull()
        assert "nothing came" in await asyncio.wait_for(publisher.wait_closed(), DEADLINE)
        await publisher.close()
        await client.close()


@pytest.mark.asyncio
async def test_a_refused_offer_leaves_nothing() -> None:
    async with nothing_left():
        with pytest.raises(OfferRefused):
            await Publisher.answer_offer("v=0\r\n", config=CONFIG, sink=lambda frame: None, log=log)


@pytest.mark.asyncio
async def test_candidates_may_come_later_and_restarts_are_refused() -> None:
    async with nothing_left():
        client = aiortc_client()
        client.addTrack(CodedTrack(coded_pictures(30)))
        offer = await offer_of(client)
        candidates = [line for line in offer.split("\r\n") if line.startswith("a=candidate")]
        bare = "\r\n".join(line for line in offer.split("\r\n") if line not in candidates)
        frames: list[Frame] = []
        publisher = await Publisher.answer_offer(bare, config=CONFIG, sink=frames.append, log=log)
        await publisher.trickle("\r\n".join(candidates))
        with pytest.raises(OfferRefused) as caught:
            await publisher.trickle("a=ice-ufrag:other\r\na=ice-pwd:" + "x" * 22)
        assert caught.value.code == "ice_restart"
        await take_answer(client, publisher.answer)
        await publisher.connect()
        await eventually(lambda: bool(frames))
        await client.close()
        await publisher.close()


@pytest.mark.asyncio
async def test_garbage_and_unknown_payload_types_are_counted() -> None:
    async with nothing_left():
        client = aiortc_client()
        client.addTrack(CodedTrack(coded_pictures(30)))
        frames: list[Frame] = []
        negotiation = Negotiation.of(await offer_of(client), publishing=True)
        transport = LossyTransport(negotiation)
        publisher = Publisher(negotiation, CONFIG, frames.append, log, transport=transport)
        await publisher.open()
        transport.take_packets_for(publisher)
        await take_answer(client, publisher.answer)
        await publisher.connect()
        await eventually(lambda: bool(frames))
        before = publisher.garbage
        publisher.on_rtp(b"\x80" + bytes(5))
        publisher.on_rtp(bytes([0x80, 35]) + bytes(30))
        publisher.on_rtcp(b"\x80\xc8\xff\xff")
        transport.receive(b"\x80" + bytes(100))
        transport.receive(b"\x16" + bytes(10))
        assert publisher.garbage == before + 2
        assert transport.rejected >= 1
        await client.close()
        await publisher.close()


@pytest.mark.asyncio
async def test_a_viewers_track_ends_with_the_viewer() -> None:
    async with nothing_left():
        client = aiortc_client()
        viewer, (track,) = await watch(client)
        await viewer.close()
        with pytest.raises(MediaStreamError):
            await asyncio.wait_for(track.recv(), 40)
        await client.close()
