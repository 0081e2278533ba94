"""What comes back is told from what was sent."""

from __future__ import annotations

import av
import numpy as np
import pytest

from gateway.clients.pattern import encoded_pattern, picture
from gateway.clients.pictures import brightness, differ


def pixels(width: int, height: int, position: float) -> np.ndarray:
    return picture(width, height, position).to_ndarray()


def frame(shown: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(shown.astype(np.uint8)), "rgb24")


SENT = brightness(picture(640, 360, 0.5))


@pytest.mark.parametrize(
    ("what", "changed"),
    [
        (pixels(640, 360, 0.9), False),
        (pixels(320, 180, 0.1), False),
        (np.clip(pixels(640, 360, 0.5).astype(int) + 5, 0, 255), False),
        (255 - pixels(640, 360, 0.5), True),
        (pixels(640, 360, 0.5)[:, ::-1], True),
        (np.zeros((360, 640, 3)), True),
    ],
    ids=["bar elsewhere", "smaller", "coded anew", "negative", "mirror", "black"],
)
def test_only_another_picture_is_a_changed_one(what: np.ndarray, changed: bool) -> None:
    assert differ(brightness(frame(what)), SENT) == changed


def test_the_coded_pattern_is_the_pattern() -> None:
    decoder = av.CodecContext.create("h264", "r")
    for unit in encoded_pattern(640, 360):
        for decoded in decoder.decode(av.Packet(unit)):
            assert not differ(brightness(decoded), SENT)
