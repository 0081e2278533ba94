"""Which of a publisher's simulcast layers is shown, by what comes."""

from __future__ import annotations

from contextlib import suppress

from gateway.media.h264 import NalType, nal_type
from gateway.media.rtp import RtpPacket
from gateway.media.rtp_h264 import STAP_A
from gateway.media.sps import Sps
from gateway.webrtc.tracks import REPAIRED_RID, RID, Track

MAX_SOURCES = 16
"""SSRCs whose layer is remembered."""


class Layers:
    """The layers that were asked for. `shown` is the name of the one that is shown.

    The first to come is shown, then each larger one that begins with a key frame, and another when the shown
    one has fallen silent, as with a sender that leaves out its large layers on a narrow path.
    """

    def __init__(self, video: Track) -> None:
        self.shown: str | None = None
        self._asked = {rid.encode(): rid for rid in video.rids}
        self._id = video.extensions.get(RID, 0)
        self._repaired_id = video.extensions.get(REPAIRED_RID, 0)
        self._of_source: dict[int, bytes] = {}

    def take_over(self, packet: RtpPacket, size: tuple[int, int] | None, *, silent: bool) -> bool:
        """Whether a packet of another SSRC begins the video to show.

        `size` is that of the pictures shown now in pixels, `silent` whether there are none (any more).
        """
        if not self._asked:
            return silent
        rid = self._layer_of(packet)
        if rid is None:
            if silent and len(self._asked) == 1:
                (self.shown,) = self._asked.values()
            return silent  # a sender that was left one layer only need not name it any more
        if rid not in self._asked:
            return False
        if not silent:
            larger = _picture_size(packet)
            if larger is None or (size is not None and larger[0] * larger[1] <= size[0] * size[1]):
                return False
        self.shown = self._asked[rid]
        return True

    def repairs_shown(self, packet: RtpPacket) -> bool:
        """Whether a retransmission can be of the layer that is shown."""
        rid = packet.extension(self._repaired_id) if len(self._asked) > 1 else None
        return rid is None or self._asked.get(rid) == self.shown

    def _layer_of(self, packet: RtpPacket) -> bytes | None:
        # A sender stops to name a layer once it was reported on.
        rid = packet.extension(self._id)
        if rid is None:
            return self._of_source.get(packet.ssrc)
        if rid in self._asked and len(self._of_source) < MAX_SOURCES:
            self._of_source[packet.ssrc] = rid
        return rid


def _picture_size(packet: RtpPacket) -> tuple[int, int] | None:
    """The size in pixels that an SPS at the beginning of a packet tells."""
    payload = packet.payload
    if nal_type(payload) == STAP_A:
        payload = payload[3 : 3 + int.from_bytes(payload[1:3], "big")]
    if nal_type(payload) != NalType.SPS:
        return None
    with suppress(ValueError):
        return Sps.parse(payload).size
    return None
