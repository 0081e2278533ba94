"""Transport streams of other writers, read by ours and by FFmpeg side by side; and such streams damaged."""

from __future__ import annotations

import io
import itertools
import subprocess

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.media.frames import AccessUnit, Frame, OpusPacket
from gateway.media.h264 import NalType, nal_type, split_annex_b
from gateway.media.mpegts import PACKET_SIZE, TIMESTAMP_MASK
from gateway.media.ts_demuxer import TsDemuxer

OPTIONS: list[dict[str, str]] = [
    {"mpegts_flags": "resend_headers+pat_pmt_at_frames"},
    {"mpegts_flags": "initial_discontinuity+system_b"},
    {"muxrate": "3000000"},
    {"pes_payload_size": "0"},
    {"pes_payload_size": "65000", "mpegts_start_pid": "0x800", "mpegts_pmt_start_pid": "0x20"},
    {"omit_video_pes_length": "0"},
    {"mpegts_service_id": "7", "sdt_period": "0.1", "pat_period": "0.05", "pcr_period": "20"},
    {"max_delay": "0", "flush_packets": "1"},
    {"output_ts_offset": "95443.0"},
]
"""The last one has both clocks wrap at 33 bits within the file."""

GSTREAMER = (
    "videotestsrc num-buffers=60 pattern=ball ! video/x-raw,width=160,height=120,framerate=30/1 "
    "! x264enc bframes={bframes} key-int-max=30 ! video/x-h264,stream-format=byte-stream ! mux. "
    "audiotestsrc num-buffers=90 samplesperbuffer=1024 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! mux. "
    "mpegtsmux name=mux {options} ! fdsink fd=1"
)


def read(data: bytes, demuxer: TsDemuxer, size: int = 1316) -> list[Frame]:
    frames = []
    for at in range(0, len(data), size):
        frames += demuxer.feed(data[at : at + size])
    return frames + demuxer.flush()


def agrees_with_ffmpeg(data: bytes) -> None:
    """Every frame's bytes and times, as FFmpeg's reader has them."""
    demuxer = TsDemuxer()
    frames = read(data, demuxer)
    assert (demuxer.damaged, demuxer.continuity_errors, demuxer.resyncs) == (0, 0, 0)
    with av.open(io.BytesIO(data), format="mpegts", options={"correct_ts_overflow": "0"}) as container:
        packets = [(packet.stream.type, packet) for packet in container.demux() if packet.size]
    pictures = [packet for kind, packet in packets if kind == "video"]
    sounds = [packet for kind, packet in packets if kind == "audio"]
    ours = [frame for frame in frames if isinstance(frame, AccessUnit)]
    heard = [frame for frame in frames if isinstance(frame, OpusPacket)]
    assert (len(ours), len(heard)) == (len(pictures), len(sounds))
    for unit, packet in zip(ours, pictures, strict=True):
        assert unit.nals == [nal for nal in split_annex_b(bytes(packet)) if nal_type(nal) != NalType.AUD]
        assert unit.key == packet.is_keyframe
        assert wrapped(unit.pts, unit.dts) == wrapped(packet.pts, packet.dts)
    for sound, packet in zip(heard, sounds, strict=True):
        assert sound.data == bytes(packet)
        assert wrapped(sound.pts) == wrapped(packet.pts)
    assert all(a.dts < b.dts for a, b in itertools.pairwise(ours))


def wrapped(*times: int | None) -> list[int]:
    return [time & TIMESTAMP_MASK for time in times if time is not None]


def written_again(data: bytes, options: dict[str, str]) -> bytes:
    """The same frames through FFmpeg's muxer with these options."""
    file = io.BytesIO()
    with (
        av.open(io.BytesIO(data), format="mpegts") as source,
        av.open(file, "w", format="mpegts", options=options) as target,
    ):
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
@pytest.mark.parametrize("bframes", [0, 2])
def test_ffmpegs_muxer_is_read_whatever_its_options(
    make_sample, bframes: int, options: dict[str, str]
) -> None:
    data = written_again(make_sample(bframes=bframes, audio="libopus").ts, options)
    agrees_with_ffmpeg(data)


@pytest.mark.parametrize("options", ["", "alignment=7", "bitrate=3000000", "pat-interval=900"])
@pytest.mark.parametrize("bframes", [0, 2])
def test_gstreamers_muxer_is_read(bframes: int, options: str) -> None:
    pipeline = GSTREAMER.format(bframes=bframes, options=options)
    command = ["gst-launch-1.0", "-q", *pipeline.split()]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True)
    agrees_with_ffmpeg(done.stdout)


CHANGE = st.tuples(
    st.integers(0, 2**20),
    st.sampled_from(["set", "cut", "repeat", "insert"]),
    st.binary(min_size=1, max_size=8),
)


@given(changes=st.lists(CHANGE, max_size=12), size=st.integers(1, 5_000))
@settings(max_examples=200)
def test_a_real_stream_is_read_whatever_happens_to_it(
    make_sample, changes: list[tuple[int, str, bytes]], size: int
) -> None:
    sample = make_sample(bframes=2, audio="libopus")
    data = bytearray(sample.ts)
    for place, change, what in changes:
        at = place % len(data)
        packet = at - at % PACKET_SIZE
        match change:
            case "set":
                data[at : at + len(what)] = what
            case "cut":
                del data[at : at + 40 * len(what)]
            case "repeat":
                data[packet:packet] = data[packet : packet + PACKET_SIZE]
            case _:
                data[at:at] = what
    demuxer = TsDemuxer()
    frames = read(bytes(data), demuxer, size)
    assert demuxer.held_bytes == 0
    if not changes:
        assert len(frames) == len(sample.frames)
    # It goes on as if nothing had been with the next segment.
    assert len(read(sample.ts, demuxer)) >= len(sample.frames) - 1
