"""RTP packets of one sender, and H.264 pictures in them; each has its length before it."""

from __future__ import annotations

from contextlib import suppress

from benchmarks.fuzz.target import Target
from gateway.media.rtp import RtpPacket
from gateway.media.rtp_h264 import Depacketizer, packetize
from gateway.webrtc.reception import Reception

HEAD = bytes.fromhex("80e00001000000010000002a")


def in_a_row(packets: list[bytes]) -> bytes:
    return b"".join(len(one).to_bytes(2, "big") + one for one in packets)


def check(data: bytes) -> None:
    reception, pictures = Reception(42, 90_000, max_wait=0.4), Depacketizer()
    at = 0
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2], "big") % 1500
        at += 2
        with suppress(ValueError):
            packet = RtpPacket.parse(data[at : at + size])
            packet.extension(1)
            for ready in reception.push(packet, at / 10_000):
                pictures.push(ready, ready.timestamp)
        at += size
    reception.ask(10.0)
    reception.report(10.0)


PICTURE = [b"\x67\x42\xe0\x1f\xda\x01\x40\x16\xe8", b"\x68\xce\x3c\x80", b"\x65\x88\x84" + bytes(3000)]

RTP = Target(
    "rtp",
    check,
    limit=16 * 1024,
    seeds=[
        in_a_row([HEAD + payload for payload in packetize(PICTURE)]),
        in_a_row([HEAD[:3] + bytes([n]) + HEAD[4:] + b"\x41\x9a\x24" + bytes(200) for n in range(30)]),
    ],
    words=[HEAD, b"\x00\x14" + HEAD + b"\x1c\x85abcdef", b"\x00\x00\x01\x41", b"\x78\x00\x02\x67\x42"],
)
