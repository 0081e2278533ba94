"""What is taken of offers in unusual shapes, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.webrtc.errors import OfferRefused
from gateway.webrtc.negotiation import Negotiation
from gateway.webrtc.tracks import REPAIRED_RID, RID
from tests.webrtc.test_negotiation import H264, HEAD, LOCAL, TRANSPORT, audio, offer, refusal, section, video

SHAPES = Path(__file__).parents[1] / "data" / "offers" / "shapes"


def shape(name: str) -> str:
    return (SHAPES / f"{name}.sdp").read_text()


def taken(text: str) -> Negotiation:
    return Negotiation.of(text, publishing=True)


def rejected(chosen: Negotiation) -> list[tuple[str, str]]:
    return [(one.kind, one.reason) for one in chosen.rejected]


def layered(*lines: str, extensions: bool = True) -> Negotiation:
    extmaps = [f"a=extmap:4 {RID}", f"a=extmap:5 {REPAIRED_RID}"] if extensions else []
    return taken(offer(video(lines=[*H264, *extmaps, *lines])))


RIDS = ("a=rid:0 send", "a=rid:1 send", "a=rid:2 send")


@pytest.mark.parametrize("name", ["simulcast-order-of-the-list", "chrome-android-simulcast-qhf"])
def test_the_largest_layer_by_its_name_is_asked_for_whatever_the_order(name: str) -> None:
    chosen = taken(shape(name))
    assert chosen.video.rids == ("f",)
    assert "a=rid:f recv\r\na=simulcast:recv f\r\n" in chosen.answer(LOCAL)
    assert rejected(chosen)[-1][0] == "simulcast"
    assert "f is asked for" in rejected(chosen)[-1][1]


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        ([*RIDS, "a=simulcast:send 2;1;0"], ("2", "1", "0")),
        ([*RIDS, "a=simulcast:send ~2;1;0"], ("1", "0")),
        ([*RIDS, "a=simulcast:send ~2;~1"], ("2", "1")),
        ([*RIDS, "a=simulcast:send 1,2;0"], ("1", "0")),
        ([*RIDS, "a=simulcast:recv 9 send 2;0"], ("2", "0")),
        ([*RIDS, "a=simulcast: send rid=0;2"], ("0", "2")),
        ([*RIDS, "a=simulcast:send 7;1"], ("1",)),
        ([*RIDS, "a=simulcast:nonsense"], ("0", "1", "2")),
        (["a=rid:0 recv", "a=simulcast:send 0"], ()),
        ([*RIDS], ()),
    ],
)
def test_layers_are_taken_in_the_order_of_the_list(lines: list[str], asked: tuple[str, ...]) -> None:
    assert layered(*lines).video.rids == asked


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ("max-width=320;max-height=180", "max-width=1280;max-height=720"),
        ("pt=96;max-fs=240", "max-fs=3600"),
        ("max-br=150000", "max-br=2500000;max-fps=30"),
        ("max-pps=1000", "max-pps=2000"),
    ],
)
def test_the_largest_layer_by_its_restrictions_is_asked_for(small: str, large: str) -> None:
    chosen = layered(f"a=rid:a send {small}", f"a=rid:b send {large}", "a=simulcast:send a;b")
    assert chosen.video.rids == ("b",)
    assert rejected(chosen) == [("simulcast", "layers a: only b is asked for")]


def test_restrictions_that_say_nothing_leave_the_choice_to_what_comes() -> None:
    chosen = layered("a=rid:a send max-fs=-1", "a=rid:b send max-fs=9x", "a=simulcast:send a;b")
    assert chosen.video.rids == ("a", "b")
    answer = chosen.answer(LOCAL)
    assert "a=rid:a recv\r\na=rid:b recv\r\na=simulcast:recv a;b\r\n" in answer
    assert f"a=extmap:5 {REPAIRED_RID}\r\n" in answer
    assert rejected(chosen) == []


def test_layers_without_the_extension_that_names_them_are_rejected() -> None:
    chosen = layered(*RIDS, "a=simulcast:send 0;1", extensions=False)
    assert chosen.video.rids == ()
    assert rejected(chosen) == [("simulcast", f"layers 0, 1: they need a=extmap with {RID}")]


def test_a_data_channel_may_carry_the_transport_of_the_bundle() -> None:
    chosen = taken(shape("datachannel-first-max-bundle"))
    assert chosen.ice.username == "1a2b3c4d"
    assert chosen.dtls_server
    assert chosen.audio is not None
    answer = chosen.answer(LOCAL)
    assert "a=group:BUNDLE 1 2\r\n" in answer
    assert rejected(chosen) == [("application", "only video and audio are taken")]


def test_candidates_of_the_bundles_first_section_are_tried() -> None:
    candidate = "a=candidate:4 1 udp 1 192.0.2.1 5000 typ host"
    text = shape("datachannel-first-max-bundle").replace("a=sctp-port", f"{candidate}\na=sctp-port")
    assert [one.port for one in taken(text).candidates] == [5000]


def test_a_data_channel_alone_is_refused_for_its_lack_of_video() -> None:
    text = shape("datachannel-first-max-bundle").split("m=audio")[0].replace("BUNDLE 0 1 2", "BUNDLE 0")
    refused = refusal(text)
    assert refused.code == "no_video"
    assert "only application" in refused.detail


def test_the_transport_may_stand_before_the_sections() -> None:
    lines = [line for line in offer(video(), audio()).splitlines() if line not in TRANSPORT[1:]]
    chosen = taken("\r\n".join([*lines[:4], *TRANSPORT[1:], *lines[4:]]))
    assert chosen.ice.username == "abcd"


def test_sound_in_another_codec_is_rejected_by_name() -> None:
    chosen = taken(shape("h264-and-pcmu"))
    assert chosen.audio is None
    assert rejected(chosen) == [("audio", "the offer has PCMU; accepted is opus/48000/2")]
    assert "m=audio 0 " in chosen.answer(LOCAL)


def test_a_static_payload_type_is_named_without_its_description() -> None:
    text = shape("h264-and-pcmu").replace("a=rtpmap:0 PCMU/8000\n", "")
    assert rejected(taken(text)) == [("audio", "the offer has PCMU; accepted is opus/48000/2")]


def test_of_two_videos_the_second_is_rejected() -> None:
    chosen = taken(shape("two-videos"))
    assert chosen.video.index == 1
    assert chosen.audio is not None
    assert rejected(chosen) == [("video", "one video is taken, the first that fits")]


def test_without_a_bundle_the_video_is_taken_alone() -> None:
    chosen = taken(shape("no-mid-no-bundle"))
    assert chosen.audio is None
    [(kind, reason)] = rejected(chosen)
    assert (kind, "BUNDLE" in reason) == ("audio", True)
    assert "a=mid" not in chosen.answer(LOCAL)


def test_a_bundle_of_others_is_not_the_videos() -> None:
    head = [*HEAD[:4], "a=group:BUNDLE 5 6", "a=group:BUNDLE 0 1"]
    chosen = taken(offer(video(0), audio(1), head=head))
    assert chosen.audio is not None
    assert "a=group:BUNDLE 0 1\r\n" in chosen.answer(LOCAL)


@pytest.mark.parametrize("publishing", [True, False])
def test_rtcp_on_a_port_of_its_own_is_refused(publishing: bool) -> None:
    text = shape("no-rtcp-mux")
    if not publishing:
        text = text.replace("a=sendonly", "a=recvonly")
    refused = refusal(text, publishing=publishing)
    assert refused.code == "bad_sdp"
    assert "rtcp-mux" in refused.detail


def test_sound_with_rtcp_on_a_port_of_its_own_is_rejected() -> None:
    alone = [line for line in audio() if line != "a=rtcp-mux"]
    chosen = taken(offer(video(), alone))
    assert chosen.audio is None
    assert "rtcp-mux" in rejected(chosen)[0][1]


def test_a_direction_before_the_sections_holds_for_those_without_one() -> None:
    refused = refusal(shape("session-recvonly"))
    assert refused.code == "no_video"
    assert "make it sendonly or sendrecv" in refused.detail
    Negotiation.of(shape("session-recvonly"), publishing=False)
    own = shape("session-recvonly").replace("a=mid:0", "a=mid:0\r\na=sendonly")
    chosen = taken(own)
    assert rejected(chosen)[0][0] == "audio"


def test_sections_that_ask_for_nothing_are_not_told_of() -> None:
    off = section("audio", 2, "0", "a=sendonly", port=0)
    assert rejected(taken(offer(video(0), audio(1, direction="inactive"), off))) == []


def test_what_is_said_of_an_offer_stays_short() -> None:
    names = "".join(f"\r\na=rtpmap:{number} {'C' * 300}{number}/8000" for number in range(30))
    formats = " ".join(str(number) for number in range(30))
    text = offer(video(), section("audio", 1, formats, "a=sendonly")) + names.lstrip()
    long_kind = section("k" * 900, 2, "0")
    chosen = taken(text + "\r\n" + "\r\n".join(long_kind))
    assert all(len(kind) <= 24 and len(reason) < 400 for kind, reason in rejected(chosen))


def test_a_group_of_endless_names_is_no_trouble() -> None:
    head = [*HEAD[:4], "a=group:BUNDLE " + " ".join(str(mid) for mid in range(9000))]
    assert taken(offer(video(0), audio(1), head=head)).audio is not None
    with pytest.raises(OfferRefused):
        taken("v=0")
