"""All that is fuzzed, by name."""

from __future__ import annotations

from benchmarks.fuzz.target import Target
from benchmarks.fuzz.targets.events import EVENTS
from benchmarks.fuzz.targets.flags import FLAGS
from benchmarks.fuzz.targets.h264 import H264
from benchmarks.fuzz.targets.json import JSON
from benchmarks.fuzz.targets.lists import LISTS
from benchmarks.fuzz.targets.mpegts import MPEGTS
from benchmarks.fuzz.targets.prices import PRICES
from benchmarks.fuzz.targets.protobuf import PROTOBUF
from benchmarks.fuzz.targets.rtcp import RTCP
from benchmarks.fuzz.targets.rtp import RTP
from benchmarks.fuzz.targets.sdp import SDP
from benchmarks.fuzz.targets.trickle import TRICKLE

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (SDP, RTP, RTCP, H264, MPEGTS, TRICKLE, EVENTS, PROTOBUF, FLAGS, PRICES, JSON, LISTS)
}
