"""Reads frames out of MPEG transport stream bytes as they come, in chunks cut anywhere.

Written for live segments: a frame is handed on with its last packet wherever the stream lets one
tell, damage costs the frames that it touched and nothing else, and memory is bounded.

Source: ISO/IEC 13818-1, 2.4.3 (packets, continuity, PES) and 2.4.4 (tables).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.aio.pace import Pace
from gateway.media import opus
from gateway.media.clock import Unwrapper
from gateway.media.frames import AccessUnit, Frame, OpusPacket
from gateway.media.h264 import SHORT_START_CODE, NalType, has_idr, nal_type, split_annex_b
from gateway.media.mpegts import (
    NULL_PID,
    PACKET_SIZE,
    PAT_PID,
    STREAM_H264,
    SYNC,
    TIMESTAMP_BITS,
    TIMESTAMP_MASK,
    ProgramMap,
    is_current,
    parse_pat,
)
from gateway.media.pes import PesPacket
from gateway.media.ts_assembly import Assembler, PesAssembler, SectionAssembler

_DEFAULT_STEP = 3_000
"""Ticks between pictures of one PES packet as long as no distance between pictures is known."""
_MAX_STEP = 90_000
MAX_NALS = 256
"""Limit of NAL units of a PES packet, access unit delimiters not counted."""
MAX_PICTURES = 64
"""Limit of pictures of a PES packet."""
MAX_SOUNDS = 64
"""Limit of Opus packets of a PES packet: 1.3 s of the usual ones."""
MAX_FRAMES = 1_000
"""Limit of pictures and packets of sound in a second, many times what is played in one: after a stall they
come faster than that."""
MAX_TABLES = 10
"""Limit of changes of the tables in a second."""


class TsDemuxer:
    """Reads the H.264 and the Opus stream of the first program; other streams are ignored.

    Times are unwrapped with one common 33-bit counter, so that audio and video stay together.
    `damaged` counts frames given up, `continuity_errors` gaps in the counters, `resyncs` losses of
    the packet grid. `clock` is monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.damaged = 0
        self.continuity_errors = 0
        self.resyncs = 0
        self._rest = b""
        self._synced = True
        self._clock = Unwrapper(TIMESTAMP_BITS)
        self._last_dts: int | None = None
        self._step = _DEFAULT_STEP
        self._frames = Pace(MAX_FRAMES, clock=clock)
        self._tables = Pace(MAX_TABLES, clock=clock)
        self._pat = SectionAssembler()
        self._pmt = SectionAssembler()
        self._pmt_pid: int | None = None
        self._program: ProgramMap | None = None
        self._pids: dict[int, Assembler] = {PAT_PID: self._pat}
        self._video: PesAssembler | None = None
        self._audio: PesAssembler | None = None

    @property
    def program(self) -> ProgramMap | None:
        """The newest PMT."""
        return self._program

    @property
    def declares_audio(self) -> bool:
        """Whether the newest PMT declares an Opus stream."""
        return self._audio is not None

    @property
    def held_bytes(self) -> int:
        """Bytes held of incomplete frames and tables."""
        return len(self._rest) + sum(assembler.held for assembler in self._pids.values())

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete with `data`, in the order in which they end."""
        if self._rest:
            data = self._rest + data
        frames: list[Frame] = []
        at, end = 0, len(data)
        while end - at >= PACKET_SIZE:
            if data[at] != SYNC or not self._synced:
                at = self._seek_sync(data, at)
                if not self._synced:
                    break
                continue
            self._packet(data, at, frames)
            at += PACKET_SIZE
            if self._video is not None:
                at = self._video.more_in_a_row(data, at)
        self._rest = data[at:]
        return frames

    def flush(self) -> list[Frame]:
        """End of a segment: the frames that only lacked a sign of their end.

        Tables, times and counts stay; packets may be counted anew by the next segment's writer.
        """
        if self._rest:
            self._lose_all()
        frames: list[Frame] = []
        for assembler in (self._video, self._audio):
            if assembler is not None and (packet := assembler.finish()):
                self._emit(assembler, packet, frames)
        self._restart()
        return frames

    def discard(self) -> None:
        """The segment broke off: drop what is incomplete."""
        self._lose_all()
        self._restart()

    def _restart(self) -> None:
        self._rest = b""
        self._synced = True
        for assembler in self._pids.values():
            assembler.counter = None
        self._collect_damage()

    def _seek_sync(self, data: bytes, at: int) -> int:
        """Where two sync bytes are a packet apart; else where the search has to go on with more data."""
        if self._synced:
            self._synced = False
            self.resyncs += 1
            self._lose_all()
        while (at := data.find(SYNC, at)) >= 0 and at + PACKET_SIZE < len(data):
            if data[at + PACKET_SIZE] == SYNC:
                self._synced = True
                return at
            at += 1
        return at if at >= 0 else len(data)

    def _packet(self, data: bytes, at: int, frames: list[Frame]) -> None:
        second, control = data[at + 1], data[at + 3]
        pid = (second & 0x1F) << 8 | data[at + 2]
        assembler = self._pids.get(pid)
        if assembler is None:
            return
        if second & 0x80 or control & 0xC0:  # transport_error_indicator, scrambled
            self._lose(assembler)
            return
        begin = at + 4
        discontinuity = stuffed = False
        if control & 0x20:
            length = data[begin]
            if length > PACKET_SIZE - 5:
                self._lose(assembler)
                return
            flags = data[begin + 1] if length else 0
            discontinuity = flags >= 0x80
            # PCR is the one field in live streams; bytes beyond it and its flags are stuffing, and so is
            # a field that says nothing.
            stuffed = not flags & 0x0F and (not flags or length != (7 if flags & 0x10 else 1))
            begin += 1 + length
        if not control & 0x10:  # no payload: not counted
            if discontinuity:
                assembler.counter = None
            return

        payload = data[begin : at + PACKET_SIZE]
        counter = control & 0x0F
        expected = assembler.counter
        if expected is not None and counter != expected and not discontinuity:
            if counter == (expected - 1) & 0x0F and payload == assembler.last_payload:
                return  # sent twice, as 2.4.3.3 allows
            self.continuity_errors += 1
            self._lose(assembler)
        assembler.counter = (counter + 1) & 0x0F
        assembler.last_payload = payload
        if second & 0x40:
            for complete in assembler.start(payload, stuffed):
                self._emit(assembler, complete, frames)
        elif (last := assembler.more(payload, stuffed)) is not None:
            self._emit(assembler, last, frames)
        if assembler.lost:
            self._collect_damage()

    def _emit(self, assembler: Assembler, data: bytes, frames: list[Frame]) -> None:
        """Process a complete PES packet or table."""
        try:
            if assembler is self._video:
                self._emit_video(PesPacket.parse(data), frames)
            elif assembler is self._audio:
                self._emit_audio(PesPacket.parse(data), frames)
            elif not is_current(data):
                pass
            elif assembler is self._pat:
                self._follow_pat(parse_pat(data))
            elif assembler is self._pmt:
                self._follow_pmt(ProgramMap.parse(data), frames)
        except ValueError:
            self.damaged += assembler is self._video or assembler is self._audio

    def _emit_video(self, packet: PesPacket, frames: list[Frame]) -> None:
        if packet.pts is None or packet.dts is None:
            raise ValueError("picture without a time")
        if not 0 < packet.payload.count(SHORT_START_CODE) <= MAX_NALS + MAX_PICTURES:
            raise ValueError("no NAL units, or more than a picture has")
        dts = self._clock.unwrap(packet.dts)
        delay = (packet.pts - packet.dts) & TIMESTAMP_MASK
        if delay >> (TIMESTAMP_BITS - 1):
            delay = 0
        if self._last_dts is not None and 0 < dts - self._last_dts <= _MAX_STEP:
            self._step = dts - self._last_dts
        pictures: list[list[bytes]] = [[]]
        for nal in split_annex_b(packet.payload):
            if nal_type(nal) != NalType.AUD:
                pictures[-1].append(nal)
            elif pictures[-1]:
                pictures.append([])
        if len(pictures) > MAX_PICTURES or not self._frames.count(len(pictures)):
            raise ValueError("more pictures than are played")
        for nals in filter(None, pictures):
            frames.append(AccessUnit(nals, dts + delay, dts, has_idr(nals)))
            self._last_dts = dts
            dts += self._step

    def _emit_audio(self, packet: PesPacket, frames: list[Frame]) -> None:
        if packet.pts is None:
            raise ValueError("sound without a time")
        pts = self._clock.unwrap(packet.pts)
        sounds = opus.split_payload(packet.payload, MAX_SOUNDS)
        if not self._frames.count(len(sounds)):
            raise ValueError("more sound than is played")
        for data in sounds:
            frames.append(OpusPacket(data, pts))
            pts += opus.duration(data)

    def _follow_pat(self, pids: dict[int, int]) -> None:
        pmt_pid = next(iter(pids.values()), None)
        if pmt_pid is None or pmt_pid in (self._pmt_pid, PAT_PID, NULL_PID) or not self._tables.count():
            return
        if self._pmt_pid is not None:
            self._pids.pop(self._pmt_pid, None)
        self._pmt = SectionAssembler()
        self._pmt_pid = pmt_pid
        self._program = None
        self._pids[pmt_pid] = self._pmt

    def _follow_pmt(self, program: ProgramMap, frames: list[Frame]) -> None:
        if program == self._program or not self._tables.count():
            return
        self._program = program
        usable = [
            stream for stream in program.streams if stream.pid not in (PAT_PID, self._pmt_pid, NULL_PID)
        ]
        video = next((stream.pid for stream in usable if stream.stream_type == STREAM_H264), None)
        audio = next((stream.pid for stream in usable if stream.is_opus and stream.pid != video), None)
        former = dict(self._pids)
        for assembler in (self._video, self._audio):
            if assembler is not None and assembler.pid not in (video, audio) and (data := assembler.finish()):
                self._emit(assembler, data, frames)
        self._video = self._assembler(self._video, video)
        self._audio = self._assembler(self._audio, audio)
        self._pids = {pid: kept for pid, kept in former.items() if isinstance(kept, SectionAssembler)}
        for assembler in (self._video, self._audio):
            if assembler is not None:
                self._pids[assembler.pid] = assembler

    @staticmethod
    def _assembler(current: PesAssembler | None, pid: int | None) -> PesAssembler | None:
        if pid is None:
            return None
        return current if current is not None and current.pid == pid else PesAssembler(pid)

    def _lose(self, assembler: Assembler) -> None:
        assembler.lose()
        self._collect_damage()

    def _lose_all(self) -> None:
        for assembler in self._pids.values():
            assembler.lose()
        self._collect_damage()

    def _collect_damage(self) -> None:
        for assembler in (self._video, self._audio):
            if assembler is not None:
                self.damaged += assembler.lost
                assembler.lost = 0
