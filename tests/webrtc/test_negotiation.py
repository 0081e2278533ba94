from __future__ import annotations

import re
from pathlib import Path

import pytest
from aiortc.sdp import SessionDescription
from hypothesis import given
from hypothesis import strategies as st

from gateway.webrtc.errors import OfferRefused
from gateway.webrtc.negotiation import Local, Negotiation, RtpSource
from gateway.webrtc.sdp import MAX_CANDIDATES, Fragment, parse_candidate
from gateway.webrtc.tracks import TRANSPORT_CC

OFFERS = Path(__file__).parents[1] / "data" / "offers"
FINGERPRINT = "sha-256 " + ":".join(["AB"] * 32)
HEAD = ["v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1"]
TRANSPORT = ["c=IN IP4 0.0.0.0", "a=ice-ufrag:abcd", "a=ice-pwd:" + "p" * 24, f"a=fingerprint:{FINGERPRINT}"]
LOCAL = Local(
    "luser",
    "l" * 22,
    ("sha-256", ":".join(["CD"] * 32)),
    [parse_candidate("1 1 udp 2130706431 192.0.2.7 40000 typ host")],  # type: ignore[list-item]
)
H264 = ["a=rtpmap:96 H264/90000", "a=fmtp:96 packetization-mode=1;profile-level-id=42e01f"]


def section(
    kind: str, mid: int, formats: str, *lines: str, setup: str = "actpass", port: int = 9
) -> list[str]:
    head = [f"m={kind} {port} UDP/TLS/RTP/SAVPF {formats}", *TRANSPORT, f"a=mid:{mid}", f"a=setup:{setup}"]
    return [*head, "a=rtcp-mux", *lines]


def video(mid: int = 0, *, lines: list[str] = H264, direction: str = "sendonly", **more: str) -> list[str]:
    return section("video", mid, "96 97", f"a={direction}", *lines, setup=more.get("setup", "actpass"))


def audio(mid: int = 1, *, direction: str = "sendonly") -> list[str]:
    return section(
        "audio", mid, "111", f"a={direction}", "a=rtpmap:111 opus/48000/2", "a=fmtp:111 minptime=10"
    )


def offer(*sections: list[str], head: list[str] = HEAD) -> str:
    return "\r\n".join([*head, *(line for lines in sections for line in lines)]) + "\r\n"


def refusal(text: str, *, publishing: bool = True) -> OfferRefused:
    with pytest.raises(OfferRefused) as caught:
        Negotiation.of(text, publishing=publishing)
    return caught.value


VP8 = ["a=rtpmap:96 VP8/90000", "a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96"]


def without(prefix: str, text: str) -> str:
    return "\r\n".join(line for line in text.splitlines() if not line.startswith(prefix))


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("", "bad_sdp", "v=0"),
        ("hello", "bad_sdp", "v=0"),
        ('{"type": "offer"}', "bad_sdp", "v=0"),
        ("v=0\r\n", "bad_sdp", "media"),
        ("v=0\r\nm=video\r\n", "bad_sdp", "cut off"),
        ("v=0\r\nm=video x UDP/TLS/RTP/SAVPF 96\r\n", "bad_sdp", "port"),
        ("v=0\r\nm=video " + "9" * 5000 + " RTP 96\r\n", "bad_sdp", "port"),
        ("v=0\r\n" + "m=video 9 X 96\r\n" * 17, "bad_sdp", "more than 16"),
        ("v=0\r\na=" + "x" * 100_000, "bad_sdp", "longer"),
        (offer(audio()), "no_video", "m=video"),
        (offer(video(direction="recvonly")), "no_video", "sendonly"),
        (offer(video(direction="inactive")), "no_video", "sendonly"),
        (offer(section("video", 0, "96", "a=sendonly", *H264, port=0)), "no_video", "port is 0"),
        (offer(video(lines=VP8)), "no_common_codec", "VP8; accepted are H264"),
        (without("a=ice-ufrag", offer(video())), "bad_sdp", "ice-ufrag"),
        (without("a=ice-pwd", offer(video())), "bad_sdp", "ice-pwd"),
        (without("a=fingerprint", offer(video())), "bad_sdp", "fingerprint"),
        (offer(video(setup="holdconn")), "bad_sdp", "setup"),
        (offer(video()).replace("a=mid:0", "a=mid:" + "m" * 65), "bad_sdp", "mid"),
        (offer(video()).replace("a=ice-pwd:" + "p" * 24, "a=ice-pwd:short"), "bad_sdp", "22"),
    ],
)
def test_a_bad_offer_is_refused_with_a_sentence(text: str, code: str, says: str) -> None:
    refused = refusal(text)
    assert refused.code == code
    assert says in refused.detail
    assert len(refused.detail) < 250


def test_a_viewer_without_fragmentation_is_refused() -> None:
    single = ["a=rtpmap:96 H264/90000", "a=fmtp:96 packetization-mode=0"]
    text = offer(video(lines=single, direction="recvonly"))
    assert refusal(text, publishing=False).code == "no_common_codec"
    assert refusal(offer(video()), publishing=False).code == "no_video"


def test_a_publisher_without_fragmentation_is_taken() -> None:
    chosen = Negotiation.of(offer(video(lines=["a=rtpmap:96 H264/90000"])), publishing=True)
    assert chosen.video.codec.payload_type == 96


def test_fragmentation_is_preferred_whatever_its_place() -> None:
    lines = ["a=rtpmap:96 H264/90000", "a=fmtp:96 packetization-mode=0"]
    lines += ["a=rtpmap:97 H264/90000", "a=fmtp:97 profile-level-id=640c1f; packetization-mode=1"]
    chosen = Negotiation.of(offer(video(lines=lines)), publishing=True)
    answer = chosen.answer(LOCAL, start_bitrate_kbps=2500)
    assert "m=video 9 UDP/TLS/RTP/SAVPF 97\r\n" in answer
    assert (
        "a=fmtp:97 profile-level-id=640c1f;packetization-mode=1;level-asymmetry-allowed=1;"
        "x-google-start-bitrate=2500\r\n" in answer
    )


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        ("42e01f;level-asymmetry-allowed=1", "42e034"),
        ("640c1f;level-asymmetry-allowed=1", "640c34"),
        ("42e03c;level-asymmetry-allowed=1", "42e03c"),
        ("42e01f", "42e01f"),
        ("42e01f;level-asymmetry-allowed=0", "42e01f"),
        ("42e0;level-asymmetry-allowed=1", "42e0"),
        ("42e0xy;level-asymmetry-allowed=1", "42e0xy"),
    ],
)
def test_a_publishers_level_limits_no_encoder_where_levels_may_differ(offered: str, answered: str) -> None:
    lines = ["a=rtpmap:96 H264/90000", f"a=fmtp:96 packetization-mode=1;profile-level-id={offered}"]
    answer = Negotiation.of(offer(video(lines=lines)), publishing=True).answer(LOCAL)
    assert f"profile-level-id={answered};" in answer
    watching = Negotiation.of(offer(video(lines=lines, direction="recvonly")), publishing=False)
    assert f"profile-level-id={offered[:6].partition(';')[0]};" in watching.answer(LOCAL)


@pytest.mark.parametrize(
    ("profile", "taken"), [("", 96), ("4200", 96), ("42e0", 97), ("42c0", 97), ("640c", 98), ("4d00", 96)]
)
def test_a_viewers_answer_names_the_profile_of_the_stream(profile: str, taken: int) -> None:
    lines = [
        line
        for number, name in ((96, "42001f"), (97, "42e01f"), (98, "64001f"))
        for line in (
            f"a=rtpmap:{number} H264/90000",
            f"a=fmtp:{number} packetization-mode=1;profile-level-id={name}",
        )
    ]
    text = offer(section("video", 0, "96 97 98", "a=recvonly", *lines))
    chosen = Negotiation.of(text, publishing=False, profile=profile)
    assert chosen.video.codec.payload_type == taken


def test_the_second_video_is_rejected_with_port_0() -> None:
    text = offer(video(0), video(1))
    answer = Negotiation.of(text, publishing=True).answer(LOCAL)
    assert "m=video 0 UDP/TLS/RTP/SAVPF 96 97\r\n" in answer
    assert "a=group:BUNDLE 0\r\n" in answer


def test_a_video_of_another_codec_is_passed_over_for_one_of_ours() -> None:
    chosen = Negotiation.of(offer(video(0, lines=VP8), video(1)), publishing=True)
    assert chosen.video.index == 1


def test_a_data_channel_is_rejected_and_sound_is_taken() -> None:
    data = section("application", 2, "webrtc-datachannel")
    chosen = Negotiation.of(offer(audio(1), video(0), data), publishing=True)
    answer = chosen.answer(LOCAL)
    assert "a=group:BUNDLE 1 0\r\n" in answer
    assert "m=application 0 UDP/TLS/RTP/SAVPF webrtc-datachannel\r\n" in answer
    assert answer.count("a=candidate:") == 1
    assert answer.index("a=candidate:") < answer.index("m=video")


def test_sound_outside_of_the_bundle_is_rejected() -> None:
    head = [line for line in HEAD if "BUNDLE" not in line]
    chosen = Negotiation.of(offer(video(0), audio(1), head=head), publishing=True)
    answer = chosen.answer(LOCAL)
    assert chosen.audio is None
    assert "m=audio 0 " in answer
    assert "BUNDLE" not in answer


@pytest.mark.parametrize(
    ("offered", "answered"), [("actpass", "passive"), ("active", "passive"), ("passive", "active")]
)
def test_the_dtls_roles_fit(offered: str, answered: str) -> None:
    answer = Negotiation.of(offer(video(setup=offered)), publishing=True).answer(LOCAL)
    assert f"a=setup:{answered}\r\n" in answer


def test_one_simulcast_layer_is_taken() -> None:
    rid = "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
    lines = [*H264, rid, "a=rid:hi send", "a=rid:lo send", "a=simulcast:send hi;lo"]
    chosen = Negotiation.of(offer(video(lines=lines)), publishing=True)
    assert chosen.video.rids == ("hi",)
    assert "a=rid:hi recv\r\na=simulcast:recv hi\r\n" in chosen.answer(LOCAL)


def test_transport_wide_feedback_needs_its_header_extension() -> None:
    lines = [*H264, "a=rtcp-fb:96 transport-cc", "a=rtcp-fb:96 nack", "a=rtcp-fb:* goog-remb"]
    assert Negotiation.of(offer(video(lines=lines)), publishing=True).video.feedback == ("nack", "goog-remb")
    lines.append("a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01")
    chosen = Negotiation.of(offer(video(lines=lines)), publishing=True)
    assert "a=rtcp-fb:96 transport-cc\r\n" in chosen.answer(LOCAL)
    assert "a=extmap:3 http://www.ietf.org/id/draft-holmer" in chosen.answer(LOCAL)


def test_names_and_strangers_are_no_candidates() -> None:
    candidates = [
        "a=candidate:1 1 udp 1 0b5ea1a8-7c1f-4e34-8d5b-1b0a4d1c3c11.local 5000 typ host",
        "a=candidate:2 1 tcp 1 192.0.2.1 9 typ host tcptype active",
        "a=candidate:3 2 udp 1 192.0.2.1 5001 typ host",
        "a=candidate:4 1 udp 1 192.0.2.1 5000 typ host",
        "a=candidate:5 1 UDP 1 192.0.2.1 5000 typ host",
        "a=candidate:6 1 udp 1 192.0.2.1 99999 typ host",
        "a=candidate:7 1 udp 1 fe80::1%eth0 5000 typ host",
        "a=candidate:8 1 udp 1 224.0.0.1 5000 typ host",
        "a=candidate:9 1 udp 1 0.0.0.0 5000 typ host",
        "a=candidate:10 1 udp 1 2001:db8::1 5000 typ srflx raddr :: rport 9",
        "a=candidate:nonsense",
    ]
    chosen = Negotiation.of(offer(video(lines=[*H264, *candidates])), publishing=True)
    found = [(one.host, one.port) for one in chosen.candidates]
    assert found == [("192.0.2.1", 5000), ("2001:db8::1", 5000)]


def test_candidates_are_limited() -> None:
    lines = [f"a=candidate:1 1 udp 1 192.0.2.1 {port} typ host" for port in range(1000, 1100)]
    assert (
        len(Negotiation.of(offer(video(lines=[*H264, *lines])), publishing=True).candidates) == MAX_CANDIDATES
    )


def test_passwords_do_not_show() -> None:
    chosen = Negotiation.of(offer(video()), publishing=True)
    assert "p" * 24 not in repr(chosen)
    assert "l" * 22 not in repr(LOCAL)


@given(st.text(max_size=300), st.integers(0, 40))
def test_garbage_in_an_offer_is_refused_or_answered(garbage: str, place: int) -> None:
    lines = offer(video(), audio()).split("\r\n")
    lines.insert(place % len(lines), garbage)
    try:
        Negotiation.of("\r\n".join(lines), publishing=True).answer(LOCAL)
    except OfferRefused as refused:
        assert refused.code in ("bad_sdp", "no_video", "no_common_codec")


@given(st.data())
def test_offers_with_mangled_lines_are_refused_or_answered(data: st.DataObject) -> None:
    lines = offer(video(), audio()).split("\r\n")
    place = data.draw(st.integers(1, len(lines) - 1))
    cut = data.draw(st.integers(0, len(lines[place])))
    lines[place] = lines[place][:cut] + data.draw(st.text(alphabet="0123456789:;=/ -aé²", max_size=12))
    try:
        Negotiation.of("\r\n".join(lines), publishing=True).answer(LOCAL)
    except OfferRefused as refused:
        assert refused.code in ("bad_sdp", "no_video", "no_common_codec")


REAL = sorted(OFFERS.glob("*.sdp"))


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_offers_of_real_clients_are_answered(path: Path) -> None:
    publishing = "recvonly" not in path.stem
    text = path.read_text()
    chosen = Negotiation.of(text, publishing=publishing)
    sources = None if publishing else {"video": RtpSource(1234, "name"), "audio": RtpSource(5678, "name")}
    answer = chosen.answer(LOCAL, start_bitrate_kbps=2500, sources=sources)
    parsed = SessionDescription.parse(answer)
    assert [media.kind for media in parsed.media] == re.findall(r"^m=(\w+)", text, re.MULTILINE)
    picture = next(media for media in parsed.media if media.kind == "video")
    assert picture.port == 9
    assert picture.direction == ("recvonly" if publishing else "sendonly")
    assert picture.rtp.codecs[0].mimeType == "video/H264"
    assert picture.rtp.codecs[0].parameters.get("packetization-mode") == "1"
    assert picture.dtls is not None


def test_a_fragment_gives_its_candidates() -> None:
    text = (
        "a=ice-ufrag:abcd\r\nm=video 9 RTP 0\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 5000 typ host\r\n"
    )
    fragment = Fragment.parse(text)
    assert fragment.username == "abcd"
    assert [one.port for one in fragment.candidates] == [5000]


@pytest.mark.parametrize("text", ["", "hello", "a=mid:0", "x" * 70_000])
def test_a_fragment_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(OfferRefused):
        Fragment.parse(text)


def test_an_offer_in_the_shape_of_obs_studios_is_answered() -> None:
    # As OBS Studio 30.1 was publicly reported to make it (libdatachannel): sound first, everything of the
    # transport before the sections, a lip-sync group, SSRCs with their msid, real ports.
    lines = [
        *("v=0", "o=rtc 3877212184 0 IN IP4 127.0.0.1", "s=-", "t=0 0"),
        *("a=group:BUNDLE 0 1", "a=group:LS 0 1", "a=msid-semantic:WMS *", "a=setup:actpass"),
        *("a=ice-ufrag:nxcM", "a=ice-pwd:" + "e" * 22, "a=ice-options:ice2,trickle"),
        f"a=fingerprint:{FINGERPRINT}",
        *("m=audio 57249 UDP/TLS/RTP/SAVPF 111", "c=IN IP4 192.0.2.53", "a=mid:0", "a=sendonly"),
        *("a=ssrc:3388068600 cname:c", "a=ssrc:3388068600 msid:s s-audio", "a=msid:s s-audio", "a=rtcp-mux"),
        *("a=rtpmap:111 opus/48000/2", "a=fmtp:111 minptime=10;stereo=1;sprop-stereo=1;useinbandfec=1"),
        *("a=candidate:1 1 UDP 2114977791 192.0.2.53 57249 typ host", "a=end-of-candidates"),
        *("m=video 57249 UDP/TLS/RTP/SAVPF 96", "c=IN IP4 192.0.2.53", "a=mid:1", "a=sendonly"),
        *("a=ssrc:3388068601 cname:c", "a=ssrc:3388068601 msid:s s-video", "a=msid:s s-video", "a=rtcp-mux"),
        *("a=rtpmap:96 H264/90000", "a=rtcp-fb:96 nack", "a=rtcp-fb:96 nack pli", "a=rtcp-fb:96 goog-remb"),
        "a=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1",
    ]
    negotiation = Negotiation.of("\r\n".join(lines) + "\r\n", publishing=True)
    assert negotiation.audio is not None
    assert (negotiation.video.codec.payload_type, negotiation.audio.codec.payload_type) == (96, 111)
    assert [(one.host, one.port) for one in negotiation.candidates] == [("192.0.2.53", 57249)]
    answer = negotiation.answer(LOCAL)
    assert answer.index("m=audio 9 UDP/TLS/RTP/SAVPF 111") < answer.index("m=video 9 UDP/TLS/RTP/SAVPF 96")
    assert "a=setup:passive" in answer
    assert "profile-level-id=42e034" in answer
    assert "a=rtcp-fb:96 nack pli" in answer


def test_an_offer_in_the_shape_of_firefoxs_is_answered() -> None:
    # As publicly reported: VP8 first, each codec with its retransmissions, directions on extensions, the
    # certificate before the sections, TCP and IPv6 candidates among the others.
    lines = [
        *("v=0", "o=mozilla...THIS_IS_SDPARTA-128.0 1 0 IN IP4 0.0.0.0", "s=-", "t=0 0"),
        *(
            f"a=fingerprint:{FINGERPRINT}",
            "a=group:BUNDLE 0 1",
            "a=ice-options:trickle",
            "a=msid-semantic:WMS *",
        ),
        *("m=audio 49152 UDP/TLS/RTP/SAVPF 109 9 0 8 101", "c=IN IP4 192.0.2.5", "a=sendonly"),
        *(
            "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            "a=mid:0",
            "a=rtcp-mux",
            "a=setup:actpass",
        ),
        *("a=ice-pwd:" + "e" * 32, "a=ice-ufrag:1a2b3c4d", "a=rtpmap:109 opus/48000/2"),
        *("a=fmtp:109 maxplaybackrate=48000;stereo=1;useinbandfec=1;usedtx=1", "a=rtpmap:9 G722/8000/1"),
        *("m=video 49152 UDP/TLS/RTP/SAVPF 120 124 126 127 97 98", "c=IN IP4 192.0.2.5", "a=sendonly"),
        *(
            "a=candidate:0 1 UDP 2122252543 192.0.2.5 49152 typ host",
            "a=mid:1",
            "a=rtcp-mux",
            "a=setup:actpass",
        ),
        *("a=candidate:1 1 TCP 2105524479 192.0.2.5 9 typ host tcptype active", "a=rtcp-rsize"),
        *("a=candidate:2 1 UDP 2122187007 2001:db8::5 49153 typ host", "a=ice-pwd:" + "e" * 32),
        *(
            "a=ice-ufrag:1a2b3c4d",
            "a=extmap:4/sendonly http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
        ),
        f"a=extmap:7 {TRANSPORT_CC}",
        *("a=rtpmap:120 VP8/90000", "a=rtpmap:124 rtx/90000", "a=fmtp:124 apt=120"),
        *("a=rtpmap:126 H264/90000", "a=rtpmap:127 rtx/90000", "a=fmtp:127 apt=126"),
        *("a=rtpmap:97 H264/90000", "a=rtpmap:98 rtx/90000", "a=fmtp:98 apt=97"),
        "a=fmtp:126 profile-level-id=42e01f;level-asymmetry-allowed=1;packetization-mode=1",
        "a=fmtp:97 profile-level-id=42e01f;level-asymmetry-allowed=1",
        *(f"a=rtcp-fb:126 {name}" for name in ("nack", "nack pli", "ccm fir", "goog-remb", "transport-cc")),
    ]
    negotiation = Negotiation.of("\r\n".join(lines) + "\r\n", publishing=True)
    video, audio = negotiation.video, negotiation.audio
    assert audio is not None
    assert (video.codec.payload_type, audio.codec.payload_type) == (126, 109)
    assert video.rtx is not None
    assert video.rtx.payload_type == 127
    assert [one.host for one in negotiation.candidates] == ["192.0.2.5", "2001:db8::5"]
    answer = negotiation.answer(LOCAL)
    assert "m=video 9 UDP/TLS/RTP/SAVPF 126 127\r\n" in answer
    assert f"a=extmap:7 {TRANSPORT_CC}\r\n" in answer
    assert "a=rtcp-fb:126 transport-cc\r\n" in answer
    assert "a=fmtp:109 maxplaybackrate=48000;stereo=1;useinbandfec=1;usedtx=1\r\n" in answer


def test_with_a_peer_of_ice_lite_the_gateway_is_in_control() -> None:
    text = offer(video()).replace("a=group", "a=ice-lite\r\na=group")
    assert Negotiation.of(text, publishing=True).ice.lite
    assert not Negotiation.of(offer(video()), publishing=True).ice.lite
