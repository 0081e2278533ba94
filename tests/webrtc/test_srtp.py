"""Our way through libsrtp and pylibsrtp's own understand each other."""

from __future__ import annotations

import random

import pylibsrtp
import pytest
from pylibsrtp import Policy, Session

from gateway.webrtc.burst import split
from gateway.webrtc.srtp import MAX_BURST, MAX_PACKET, Packet, SrtpSession

PROFILES = {
    Policy.SRTP_PROFILE_AES128_CM_SHA1_80: 30,
    Policy.SRTP_PROFILE_AEAD_AES_128_GCM: 28,
    Policy.SRTP_PROFILE_AEAD_AES_256_GCM: 44,
}
"""The bytes of key and salt of each."""


def policy(profile: int, ssrc_type: int) -> Policy:
    return Policy(key=bytes(range(PROFILES[profile])), ssrc_type=ssrc_type, srtp_profile=profile)


def packets(*sizes: int) -> list[Packet]:
    chance = random.Random(3)
    return [
        (bytes((0x80, 96)) + number.to_bytes(2, "big") + b"time" + b"ssrc", chance.randbytes(size))
        for number, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_burst_is_what_pylibsrtp_makes_of_its_packets(profile: int) -> None:
    ours = SrtpSession(policy(profile, Policy.SSRC_ANY_OUTBOUND))
    theirs = Session(policy(profile, Policy.SSRC_ANY_OUTBOUND))
    sent = packets(1188, 1188, 0, 1, 700, MAX_PACKET - 12)
    by_the_book = Session(policy(profile, Policy.SSRC_ANY_INBOUND))
    datagrams = split(*ours.protect_burst(sent))
    assert datagrams[:-1] == [theirs.protect(header + payload) for header, payload in sent[:-1]]
    assert [by_the_book.unprotect(datagram) for datagram in datagrams[:-1]] == [
        header + payload for header, payload in sent[:-1]
    ]


@pytest.mark.parametrize("profile", PROFILES)
def test_what_pylibsrtp_protects_is_read(profile: int) -> None:
    theirs = Session(policy(profile, Policy.SSRC_ANY_OUTBOUND))
    ours = SrtpSession(policy(profile, Policy.SSRC_ANY_INBOUND))
    plain = [header + payload for header, payload in packets(1188, 0, 300)]
    datagrams = [theirs.protect(packet) for packet in plain]
    assert [ours.unprotect(datagram) for datagram in datagrams] == plain
    with pytest.raises(pylibsrtp.Error, match="replay"):
        ours.unprotect(datagrams[0])
    with pytest.raises(pylibsrtp.Error):
        ours.unprotect(datagrams[0][:-1] + b"x")
    with pytest.raises(pylibsrtp.Error):
        ours.unprotect(b"\x80" * 12)


def test_what_does_not_fit_is_refused_before_it_is_written() -> None:
    session = SrtpSession(policy(Policy.SRTP_PROFILE_AEAD_AES_128_GCM, Policy.SSRC_ANY_OUTBOUND))
    with pytest.raises(ValueError, match="too long"):
        session.protect_burst(packets(MAX_PACKET))
    with pytest.raises(ValueError, match="more than"):
        session.protect_burst(packets(*[100] * (MAX_BURST + 1)))
    with pytest.raises(ValueError, match="too long"):
        session.unprotect(bytes(MAX_PACKET + 1))
    assert len(session.protect_burst(packets(*[MAX_PACKET - 12] * MAX_BURST)).sizes) == MAX_BURST
