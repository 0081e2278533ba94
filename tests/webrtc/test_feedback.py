"""What a publisher's encoder is told, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiortc.rtp import RtcpPsfbPacket

from gateway.media.rtp import RtpPacket
from gateway.webrtc import rtcp
from gateway.webrtc.config import WebRtcConfig
from gateway.webrtc.congestion import TRANSPORT_FEEDBACK
from gateway.webrtc.feedback import (
    ARRIVALS_EVERY,
    KEY_FRAME_EVERY,
    KEY_FRAME_SPACING,
    UNANSWERED,
    Feedback,
)
from gateway.webrtc.negotiation import Negotiation
from gateway.webrtc.reception import Reception
from gateway.webrtc.tracks import TRANSPORT_CC
from harness.waiting import eventually
from tests.webrtc.sent import Sent

OFFERS = Path(__file__).parents[1] / "data" / "offers"


class Told:
    """Feedback on one video stream, and what it sent."""

    def __init__(self, change: tuple[str, str] = ("", "")) -> None:
        offer = (OFFERS / "chromium-camera-sendonly.sdp").read_text().replace(*change)
        self.video = Reception(1, 90_000, max_wait=0.4)
        self.sent = Sent()
        track = Negotiation.of(offer, publishing=True).video
        self.feedback = Feedback(track, WebRtcConfig(), self.sent)  # type: ignore[arg-type]
        self.number_id = track.extensions.get(TRANSPORT_CC, 0)

    def packet(self, number: int, now: float = 0.0) -> RtpPacket:
        """A packet of the video came."""
        extension = bytes([self.number_id << 4 | 1]) + number.to_bytes(2, "big") + b"\0"
        head = bytes([0x90, 96]) + number.to_bytes(2, "big") + (number * 3000).to_bytes(4, "big")
        packet = RtpPacket.parse(head + (1).to_bytes(4, "big") + b"\xbe\xde\0\1" + extension + b"media")
        self.video.push(packet, now)
        return packet


def test_nothing_is_sent_before_there_is_a_stream() -> None:
    told = Told()
    told.feedback.arrived(told.packet(1), 1.0)
    told.feedback.request_key_frame(100.0, KEY_FRAME_SPACING)
    told.feedback.report(100.0, None, 0)
    assert told.sent.rtcp == []


def test_a_key_frame_is_asked_for_at_most_so_often() -> None:
    told = Told()
    feedback, sent = told.feedback, told.sent
    feedback.begin_video(told.video, 10.0)
    for step in range(5):
        feedback.request_key_frame(10.0 + step / 10, KEY_FRAME_EVERY)
    assert sent.key_frames_asked == 0, "the first picture of a stream is on its way as it is"
    for step in range(5):
        feedback.request_key_frame(10.0 + KEY_FRAME_EVERY + step / 10, KEY_FRAME_EVERY)
    assert sent.key_frames_asked == 1
    feedback.request_key_frame(10.0 + KEY_FRAME_EVERY + KEY_FRAME_SPACING, KEY_FRAME_SPACING)
    assert sent.key_frames_asked == 2


def test_a_publisher_is_told_the_lower_rate_until_the_limit_is_lifted() -> None:
    told = Told()
    feedback, sent = told.feedback, told.sent
    feedback.begin_video(told.video, 0.0)
    told.packet(1)
    feedback.report(1.0, None, 2_000_000)
    assert sent.rates == [], "with transport-wide feedback it judges its own way by itself"
    feedback.limit_bitrate(700_000)
    feedback.report(2.0, None, 2_000_000)
    assert sent.rates == [pytest.approx(700_000, rel=0.01)]
    feedback.limit_bitrate(None)
    feedback.report(3.0, None, 2_000_000)
    assert len(sent.rates) == 1


def test_without_transport_wide_feedback_it_is_told_an_estimate_each_second() -> None:
    told = Told(change=(TRANSPORT_CC, "urn:unknown"))
    told.feedback.begin_video(told.video, 0.0)
    told.packet(1)
    told.feedback.connected(0.0)
    for half in range(1, 7):
        told.feedback.report(half / 2, None, 2_000_000)
    assert len(told.sent.reports) == len(told.sent.rates) == 3
    assert told.sent.rates == sorted(told.sent.rates)


def test_arrivals_are_told_with_the_packets_and_the_rest_by_the_clock() -> None:
    told = Told()
    feedback, sent = told.feedback, told.sent
    feedback.begin_video(told.video, 10.0)
    for number in range(1, 5):
        feedback.arrived(told.packet(number), 10.0 + number * ARRIVALS_EVERY * 0.51)
    feedback.send_arrivals(11.0)
    told_of = [int.from_bytes(packet[14:16], "big") for packet in sent.rtcp]
    assert {packet[0] & 0x1F for packet in sent.rtcp} == {TRANSPORT_FEEDBACK}
    assert told_of == [1, 2, 1]


@pytest.mark.asyncio
async def test_what_is_missing_is_asked_for_until_it_is_there() -> None:
    told = Told()
    feedback, sent = told.feedback, told.sent
    feedback.begin_video(told.video, 0.0)
    told.packet(1)
    told.packet(3)

    def give_up(now: float) -> None:
        if len(sent.missing) == 2:
            told.packet(2)

    feedback.ask_for_missing(give_up)
    feedback.ask_for_missing(give_up)
    await eventually(lambda: not len(told.video.buffer))
    assert sent.missing == [[2], [2]]
    feedback.close()


def test_who_offers_a_full_intra_request_alone_gets_that() -> None:
    told = Told(change=("nack pli", "nack"))
    told.feedback.begin_video(told.video, 0.0)
    told.feedback.request_key_frame(10.0, KEY_FRAME_SPACING)
    told.feedback.request_key_frame(20.0, KEY_FRAME_SPACING)
    requests = [one for one in told.sent.packets if isinstance(one, RtcpPsfbPacket)]
    assert [one.fmt for one in requests] == [rtcp.FIR] * 2
    assert [one.fci for one in requests] == [bytes([0, 0, 0, 1, 1, 0, 0, 0]), bytes([0, 0, 0, 1, 2, 0, 0, 0])]


def test_who_offers_both_and_does_not_listen_gets_a_full_intra_request() -> None:
    told = Told()
    told.feedback.begin_video(told.video, 0.0)
    for second in range(10, 12 + UNANSWERED):
        told.feedback.request_key_frame(second, KEY_FRAME_SPACING)
    requests = [one.fmt for one in told.sent.packets if isinstance(one, RtcpPsfbPacket)]
    assert requests == [rtcp.PLI] * (UNANSWERED - 1) + [rtcp.FIR] * 3


def test_an_encoder_that_was_asked_again_and_again_does_not_listen_until_it_does() -> None:
    told = Told()
    feedback = told.feedback
    feedback.begin_video(told.video, 0.0)
    for second in range(10, 10 + UNANSWERED):
        assert not feedback.ignores_requests
        feedback.request_key_frame(second, KEY_FRAME_SPACING)
    assert feedback.ignores_requests
    feedback.key_frame_came()
    assert feedback.ignores_requests, "that one came by itself"
    feedback.request_key_frame(20.0, KEY_FRAME_SPACING)
    feedback.key_frame_came()
    assert not feedback.ignores_requests
