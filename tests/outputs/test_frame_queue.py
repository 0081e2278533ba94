"""The queue of an output: what it drops, and that it begins with a key frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media.frames import AccessUnit, Frame, OpusPacket
from gateway.outputs.frame_queue import FrameQueue


def picture(number: int, *, key: bool = False, size: int = 10) -> AccessUnit:
    return AccessUnit([bytes(size)], number, number, key)


async def taken(queue: FrameQueue) -> list[Frame]:
    queue.finish()
    found = []
    while (frame := await queue.take()) is not None:
        found.append(frame)
    return found


@pytest.mark.asyncio
async def test_too_much_is_dropped_up_to_the_next_key_frame() -> None:
    queue = FrameQueue(max_frames=3)
    queue.idle = False
    queue.push(OpusPacket(b"early", 0))
    for number, key in enumerate([False, True, False, False, False, False, True, False], 1):
        queue.push(picture(number, key=key))
    assert [frame.pts for frame in await taken(queue)] == [7, 8]
    assert queue.dropped == 6
    assert queue.size == 0


@pytest.mark.asyncio
async def test_while_nobody_takes_any_the_newest_key_frame_stands_first() -> None:
    queue = FrameQueue()
    for number in range(20):
        queue.push(picture(number, key=number % 5 == 0))
    assert [frame.pts for frame in await taken(queue)] == [15, 16, 17, 18, 19]
    assert queue.dropped == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 60), st.booleans()), max_size=60))
def test_it_is_bounded_and_begins_with_a_key_frame(pushes: list[tuple[bool, int, bool]]) -> None:
    queue = FrameQueue(max_bytes=100, max_frames=5)
    for number, (key, size, idle) in enumerate(pushes):
        queue.idle = idle
        queue.push(picture(number, key=key, size=size))
        assert len(queue) <= 5
        assert 0 <= queue.size <= 100
