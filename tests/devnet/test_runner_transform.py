"""What a runner makes of segments, without any network."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import av
import pytest

from gateway.devnet.runner.feed import Feed
from gateway.devnet.runner.nal_hashes import nal_units
from gateway.devnet.runner.transform import Transform
from gateway.media.frames import AccessUnit, OpusPacket
from gateway.media.segmenter import Segmenter
from tests.devnet.runner_kit import (
    EXPECTED,
    FPS,
    FRAME_TICKS,
    MIRROR,
    NEGATIVE,
    UNCHANGED,
    Shelf,
    TsSegment,
    look,
    make_segments,
    near,
)

SILENCE = b"\xfc\xff\xfe"
"""An Opus packet of 20 ms (RFC 6716, 3.1)."""


class Bench:
    """A transform at work in its thread."""

    def __init__(self, effect: str) -> None:
        self.feed = Feed()
        self.shelf = Shelf()
        self.transform = Transform(self.feed, self.shelf, effect=effect)
        self._over = threading.Event()
        self._thread = self.transform.start(self._over.set, name="transform under test")

    def put(self, *segments: bytes) -> None:
        for data in segments:
            segment = self.feed.open_segment()
            segment.write(data)
            segment.end()

    def finish(self) -> list[bytes]:
        self.feed.end()
        assert self._over.wait(20)
        self._thread.join(1)
        return self.shelf.segments


@contextmanager
def bench(effect: str) -> Iterator[Bench]:
    made = Bench(effect)
    try:
        yield made
    finally:
        made.finish()


def changed(effect: str, segments: Sequence[bytes]) -> list[bytes]:
    with bench(effect) as made:
        made.put(*segments)
        return made.finish()


def gateways_segments(source: Sequence[TsSegment], *, sound: bool) -> list[bytes]:
    """The same pictures as the gateway sends them to an orchestrator."""
    now, made = 0.0, list[_Written]()

    def open_segment() -> _Written:
        made.append(_Written())
        return made[-1]

    segmenter = Segmenter(open_segment, audio=sound, clock=lambda: now)
    for segment in source:
        with av.open(io.BytesIO(segment.data), format="mpegts") as container:
            for packet in container.demux():
                if packet.pts is None:
                    continue
                nals = nal_units(bytes(packet))
                segmenter.push(AccessUnit(nals, packet.pts, packet.pts, key=packet.is_keyframe))
                if sound:
                    segmenter.push(OpusPacket(SILENCE, packet.pts))
                now += 1 / FPS
    segmenter.close()
    return [segment.data for segment in made]


class _Written:
    """A segment writer that keeps what it is given."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> bool:
        self.data += data
        return True

    def close(self) -> None:
        pass


@pytest.mark.parametrize("effect", ["negative", "mirror", "grey"])
def test_an_effect_is_seen_on_every_pixel_looked_at_and_times_are_kept(effect: str) -> None:
    source = make_segments(2)
    pictures = look(b"".join(changed(effect, [segment.data for segment in source])))
    assert pictures.pts == source[0].pts + source[1].pts
    assert all(near(pixels, EXPECTED[effect]) for pixels in pictures.pixels)


def test_without_an_effect_segments_are_handed_on_byte_for_byte() -> None:
    source = [segment.data for segment in make_segments(3)]
    assert changed("none", source) == source


@pytest.mark.parametrize("effect", ["negative", "none"])
def test_the_slices_received_are_the_ones_that_were_encoded(effect: str) -> None:
    source = make_segments(2)
    with bench(effect) as made:
        made.put(*(segment.data for segment in source))
        made.finish()
        assert made.transform.received.hashes() == source[0].hashes + source[1].hashes


@pytest.mark.parametrize("effect", ["negative", "none"])
@pytest.mark.parametrize("sound", [False, True])
def test_the_gateways_own_segments_are_read_slice_for_slice(sound: bool, effect: str) -> None:
    source = make_segments(3)
    segments = gateways_segments(source, sound=sound)
    with bench(effect) as made:
        made.put(*segments)
        pictures = look(b"".join(made.finish()))
        assert made.transform.received.hashes() == [digest for segment in source for digest in segment.hashes]
        assert made.transform.counters.audio_in == (90 if sound else 0)
    assert pictures.pts == [pts for segment in source for pts in segment.pts]
    assert bool(pictures.sound_pts) == sound


@pytest.mark.parametrize("effect", ["negative", "none"])
def test_a_picture_comes_out_long_before_its_segment_has_ended(effect: str) -> None:
    source = make_segments(1)[0]
    with bench(effect) as made:
        segment = made.feed.open_segment()
        for frame in source.frames[:4]:
            segment.write(frame)
        assert made.shelf.wait_for(lambda: len(b"".join(made.shelf.segments)) > 188 * 3)
        segment.end()


@pytest.mark.parametrize("effect", ["negative", "none"])
def test_a_damaged_segment_hurts_no_other(effect: str) -> None:
    source = make_segments(3)
    with bench(effect) as made:
        made.put(source[0].data, b"nothing that anybody could read" * 100, source[2].data)
        pictures = look(b"".join(made.finish()))
        counters = made.transform.counters
    assert set(pictures.pts) == {*source[0].pts, *source[2].pts}
    assert (counters.segments_in, counters.segments_damaged) == (3, 1)


def test_a_segment_that_broke_off_gives_what_there_was_of_it() -> None:
    source = make_segments(2)
    pictures = look(b"".join(changed("negative", [source[0].data[:-5000], source[1].data])))
    assert pictures.pts[-30:] == source[1].pts
    assert all(near(pixels, NEGATIVE) for pixels in pictures.pixels[-30:])


def test_an_effect_changes_in_the_middle_of_a_segment() -> None:
    source = make_segments(1, gop=60)[0]
    with bench("negative") as made:
        segment = made.feed.open_segment()
        for frame in source.frames[:30]:
            segment.write(frame)
        assert made.shelf.wait_for(lambda: made.transform.counters.frames_out >= 25)
        made.transform.effect = "mirror"
        for frame in source.frames[30:]:
            segment.write(frame)
        segment.end()
        pixels = look(b"".join(made.finish())).pixels
    assert near(pixels[0], NEGATIVE)
    assert near(pixels[-1], MIRROR)


def test_no_effect_shows_at_once_and_an_effect_again_from_the_next_segment() -> None:
    source = make_segments(3)
    with bench("negative") as made:
        made.put(source[0].data)
        assert made.shelf.wait_for(lambda: made.transform.counters.frames_out == 30)
        made.transform.effect = "none"
        made.put(source[1].data)
        assert made.shelf.wait_for(lambda: made.transform.counters.frames_out == 60)
        made.transform.effect = "grey"
        made.put(source[2].data)
        first, second, third = (look(segment) for segment in made.finish())
    assert near(first.pixels[-1], NEGATIVE)
    assert near(second.pixels[0], UNCHANGED)
    assert near(third.pixels[0], EXPECTED["grey"])
    assert third.pts == source[2].pts


def test_a_new_resolution_in_mid_stream_goes_through() -> None:
    small, large = make_segments(1)[0], make_segments(1, size=(640, 352), first_pts=1_000_000 + 90_000)[0]
    pictures = look(b"".join(changed("negative", [small.data, large.data])))
    assert pictures.sizes == [(320, 176)] * 30 + [(640, 352)] * 30
    assert near(pictures.pixels[-1], NEGATIVE)


def test_odd_sides_are_cut_even() -> None:
    # 4:2:0 has no odd sides, but a stream's cropping can make them
    from gateway.devnet.runner.picture import Effect

    frame = av.VideoFrame(321, 177, "yuv420p")
    frame.pts = 0
    applied = Effect().apply(frame, "negative")
    assert (applied.width, applied.height) == (320, 176)


def test_times_go_on_over_the_wrap_of_33_bits() -> None:
    source = make_segments(3, first_pts=2**33 - 45 * FRAME_TICKS)
    pictures = [look(segment) for segment in changed("negative", [segment.data for segment in source])]
    seen = [pts % 2**33 for segment in pictures for pts in segment.pts]
    assert seen == [pts % 2**33 for segment in source for pts in segment.pts]


def test_a_time_line_that_starts_again_begins_a_new_segment() -> None:
    first, again = make_segments(1, first_pts=9_000_000)[0], make_segments(1, first_pts=90_000)[0]
    before, after = changed("negative", [first.data, again.data])
    assert look(before).pts == first.pts
    assert look(after).pts == again.pts


@pytest.mark.parametrize("effect", ["negative", "none"])
def test_sound_is_handed_on(effect: str) -> None:
    source = make_segments(2, sound=True)
    pictures = look(b"".join(changed(effect, [segment.data for segment in source])))
    assert len(pictures.pts) == 60
    expected = [pts for segment in source for pts in look(segment.data).sound_pts]
    assert len(expected) > 50
    # a sound packet that comes before the first picture has no segment to go into
    assert pictures.sound_pts == expected[-len(pictures.sound_pts) :]
    assert len(pictures.sound_pts) >= len(expected) - 2


def test_a_long_gop_is_broken_by_key_frames_of_the_encoders_own() -> None:
    source = make_segments(1, gop=150)[0]
    keys = []
    with av.open(io.BytesIO(b"".join(changed("negative", [source.data]))), format="mpegts") as container:
        keys = [packet.pts for packet in container.demux() if packet.is_keyframe]
    assert keys == [source.pts[0], source.pts[60], source.pts[120]]


def test_with_an_interval_few_pictures_are_given_after_the_first_ones() -> None:
    source = make_segments(7)
    with bench("negative") as made:
        made.transform.picture_interval = 2.0
        made.put(*(segment.data for segment in source))
        pictures = look(b"".join(made.finish()))
    every = [pts for segment in source for pts in segment.pts]
    assert pictures.pts == [*every[:91], every[150]]


def test_a_reader_too_slow_for_its_input_drops_to_the_next_segment() -> None:
    feed = Feed(limit=100)
    first, second = feed.open_segment(), feed.open_segment()
    first.write(b"a" * 80)
    first.write(b"b" * 80)
    first.write(b"c")
    assert (first.damaged, feed.dropped, first.read(1000), first.read(1000)) == (True, 1, b"a" * 80, b"")
    second.write(b"d" * 100)
    assert (second.read(60), second.read(60), feed.held) == (b"d" * 60, b"d" * 40, 0)


def test_nal_units_come_without_start_codes_of_either_length() -> None:
    assert nal_units(b"\0\0\0\1\x67ab\0\0\1\x65cd\0\0\0\1\x41e\0") == [b"\x67ab", b"\x65cd", b"\x41e"]


def test_blur_mixes_what_is_within_its_radius() -> None:
    from gateway.devnet.runner.picture import Effect

    frame = av.VideoFrame(64, 16, "yuv420p")
    for plane, value in zip(frame.planes, (50, 128, 128), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    luma = frame.planes[0]
    row = (bytes([50]) * 32 + bytes([200]) * 32).ljust(luma.line_size, b"\0")
    luma.update(row * luma.height)
    frame.pts = 0
    effect = Effect()
    changed = {}
    for radius in (1, 9):
        effect.blur_radius = radius
        blurred = effect.apply(frame, "blur")
        line = bytes(blurred.planes[0])[8 * blurred.planes[0].line_size :][:64]
        changed[radius] = [x for x, value in enumerate(line) if value not in (50, 200)]
    assert changed[1] == [31, 32]
    assert (min(changed[9]), max(changed[9])) == (23, 40)
