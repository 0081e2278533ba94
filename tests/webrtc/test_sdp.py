"""The largest bodies that are taken, made to cost as much as they can."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from gateway.webrtc.errors import OfferRefused
from gateway.webrtc.negotiation import Negotiation
from gateway.webrtc.sdp import (
    MAX_CANDIDATE_LINES,
    MAX_CANDIDATES,
    MAX_FORMATS,
    MAX_LINES,
    MAX_SDP,
    Description,
    Fragment,
    codecs,
)
from harness.cost import TURN, cpu_seconds
from harness.waiting import SLACK
from tests.webrtc.test_negotiation import H264, HEAD, LOCAL, audio, offer, refusal, video


def filled(text: str, line: Callable[[int], str]) -> str:
    """`text` and as many further lines as a body may have characters."""
    lines, left = [text.rstrip("\r\n")], MAX_SDP - len(text) - 2
    while left >= len(more := line(len(lines))) + 2:
        lines.append(more)
        left -= len(more) + 2
    return "\r\n".join(lines) + "\r\n"


def with_formats(formats: str, line: Callable[[int], str] = lambda _: "a=x") -> str:
    return filled(offer(video()).replace(" 96 97", f" {formats}"), line)


HOSTILE = {
    "one format 10,900 times": with_formats("96 " * 10_900, lambda _: "a=rtcp-fb:1 x"),
    "a long fmtp for one format 10,900 times": with_formats(
        "96 " * 10_900, lambda _: f"a=fmtp:96 packetization-mode=1;{'a=b;' * 6000}"
    ),
    "every format 90 times": with_formats(
        " ".join(str(number % 128) for number in range(11_000)), lambda at: f"a=rtpmap:{at % 128} H264/90000"
    ),
    "10,000 formats": with_formats(" ".join(map(str, range(10_000)))),
    "feedback for all formats": with_formats(
        " ".join(map(str, range(128))), lambda at: f"a=rtpmap:{at} x/1" if at < 128 else f"a=rtcp-fb:* {at}"
    ),
    "thousands of sections": filled(offer(video()), lambda _: "m=v 9 U 0"),
    "thousands of candidates": filled(
        offer(video()), lambda at: f"a=candidate:1 1 udp 1 10.0.{at >> 8}.{at & 255} 9 typ host"
    ),
    "thousands of TCP candidates": filled(
        offer(video()), lambda at: f"a=candidate:1 1 tcp 1 10.0.{at >> 8}.{at & 255} 9 typ host"
    ),
    "thousands of fingerprints": filled(offer(video()), lambda _: "a=fingerprint:sha-1 0"),
    "a bundle of thousands": offer(video()).replace("BUNDLE 0", "BUNDLE" + " 1" * 30_000 + " 0"),
    "a bundle that names one section thousands of times, and thousands of TCP candidates": filled(
        offer(video(), audio(), head=[*HEAD[:-1], "a=group:BUNDLE 0" + " 1" * 14_000]),
        lambda _: "a=candidate:1 1 tcp 1 1.2.3.4 9 typ host",
    ),
    "sixteen sections, each refused for its bundle": offer(
        video(), *[audio(mid) for mid in range(1, 16)], head=[*HEAD[:-1], "a=group:BUNDLE 0" + " a" * 27_000]
    ),
    "thousands of extensions": filled(offer(video()), lambda at: f"a=extmap:1 {at}"),
    "blank lines": offer(video()) + "\n" * 60_000,
}


@pytest.mark.parametrize("publishing", [True, False])
@pytest.mark.parametrize("what", HOSTILE)
def test_no_offer_holds_up_the_loop(what: str, publishing: bool) -> None:
    text = HOSTILE[what] if publishing else HOSTILE[what].replace("a=sendonly", "a=recvonly")

    def answer() -> None:
        with suppress(OfferRefused):
            Negotiation.of(text, publishing=publishing).answer(LOCAL)

    assert cpu_seconds(answer) < SLACK * TURN


@pytest.mark.parametrize(
    "line",
    [
        lambda at: f"a=candidate:1 1 udp 1 10.0.{at >> 8}.{at & 255} 9 typ host",
        lambda _: "m=v 9 U 0",
        lambda _: "a=",
    ],
)
def test_no_fragment_holds_up_the_loop(line: Callable[[int], str]) -> None:
    text = filled("a=ice-ufrag:abcd", line)

    def parse() -> None:
        with suppress(OfferRefused):
            Fragment.parse(text)

    assert cpu_seconds(parse) < SLACK * TURN


def test_a_bundle_names_each_section_once_and_those_alone_that_are_there() -> None:
    text = offer(video(), audio(), head=[*HEAD[:-1], "a=group:BUNDLE 7 1 0 1 1 0 7"])
    assert Description.parse(text).bundle("0") == ["1", "0"]


@pytest.mark.parametrize("line", ["1 1 tcp 1 10.0.0.1 9 typ host", "nonsense"])
def test_a_peers_candidates_are_looked_for_in_no_more_lines_than_any_client_has(line: str) -> None:
    lines = [f"a=candidate:{line}"] * MAX_CANDIDATE_LINES + ["a=candidate:1 1 udp 1 10.0.0.1 9 typ host"]
    assert Negotiation.of(offer(video(lines=[*H264, *lines])), publishing=True).candidates == []
    assert len(Negotiation.of(offer(video(lines=[*H264, *lines[1:]])), publishing=True).candidates) == 1
    sections = ["a=ice-ufrag:abcd", *lines[:9], "m=video 9 X 96", *lines[9:]]
    assert Fragment.parse("\r\n".join(sections)).candidates == []


def test_a_fragments_candidates_are_those_of_one_peer() -> None:
    lines = [
        line
        for at in range(4)
        for line in (
            "m=video 9 X 96",
            *(f"a=candidate:1 1 udp 1 10.0.{at}.{n} 9 typ host" for n in range(20)),
        )
    ]
    assert len(Fragment.parse("\r\n".join(lines)).candidates) == MAX_CANDIDATES


def test_a_format_counts_once() -> None:
    section = Description.parse(offer(video()).replace(" 96 97", " 96 97 96 96")).media[0]
    assert section.formats == ["96", "97"]
    assert [codec.payload_type for codec in codecs(section)] == [96]


def test_feedback_for_all_formats_is_that_of_each() -> None:
    lines = [*H264, "a=rtcp-fb:* nack", "a=rtcp-fb:96 nack pli", "a=rtcp-fb:97 ccm fir"]
    section = Description.parse(offer(video(lines=lines))).media[0]
    assert set(codecs(section)[0].feedback) == {"nack", "nack pli"}


def test_more_lines_and_formats_than_any_client_has_are_refused() -> None:
    assert f"more than {MAX_LINES} lines" in refusal(offer(video()) + "a=x\n" * MAX_LINES).detail
    formats = " ".join(map(str, range(MAX_FORMATS + 1)))
    assert f"more than {MAX_FORMATS} formats" in refusal(with_formats(formats, lambda _: "a=x" * 9)).detail
    with pytest.raises(OfferRefused, match="more than 16 media sections"):
        Fragment.parse("a=ice-ufrag:abcd\r\n" + "m=video 9 X 96\r\n" * 17)
