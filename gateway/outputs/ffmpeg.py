"""One FFmpeg process that reads MPEG-TS from a pipe. It ends with this process: its input ends then."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress

from gateway.aio.tasks import cancel, spawn
from gateway.outputs.target import Target, TargetKind

STALL = 15.0
"""Seconds after which a process that takes no more input has failed."""
IO_TIMEOUT = 10.0
"""Seconds after which FFmpeg gives up a far end that neither takes nor says anything."""
STOP = 5.0
"""Seconds that a process may take to finish when its input has ended."""
WRITE_BUFFER = 64 * 1024
LAST_LINES = 3
"""Lines of FFmpeg's that say why it ended: the cause comes before what followed from it."""
_PART = re.compile(r"^\[\w+ @ 0x[0-9a-f]+\] *")
"""The part of FFmpeg that says a line."""
MAX_SAID = 2_000
"""Limit of bytes kept of what FFmpeg says."""

READ = [
    *("-hide_banner", "-nostdin", "-loglevel", "error", "-nostats", "-protocol_whitelist", "pipe"),
    *("-f", "mpegts", "-probesize", "200000", "-analyzeduration", "1000000", "-i", "pipe:0"),
    *("-map", "0:v:0", "-c:v", "copy"),
]
"""Reads the gateway's MPEG-TS, and no other file or address."""
AAC = [
    *("-map", "0:a:0", "-c:a", "aac", "-b:a", "128k", "-ar", "48000", "-ac", "2"),
    *("-af", "aresample=async=1000"),
]
"""Most far ends take no Opus. Gaps in the sound become silence."""
OPUS = ["-map", "0:a:0", "-c:a", "copy"]
NO_SOUND = ["-an"]
FRAGMENTS = [
    *("-f", "mp4", "-movflags", "+frag_keyframe+empty_moov+default_base_moof"),
    *("-frag_duration", "1000000"),
]
"""MP4 that can be read up to its last second (in microseconds) or key frame, however it ends."""
WRITE = ["-max_interleave_delta", "1000000", "-flush_packets", "1"]
"""Waits at most a second (in microseconds) for sound that does not come."""
PROGRESS = ["-progress", "pipe:1", "-stats_period", "1"]


class FfmpegFailed(Exception):
    """A process did not start, ended or stalled; the text says why, without secrets."""


MAX_FRAGMENT = 32 * 1024 * 1024
"""Bytes of media that FFmpeg holds for a fragment: an encoder may send no further key frame."""
HLS_ARGUMENTS = [
    *READ,
    *("-max_interleave_delta", "500000", "-flush_packets", "1", "-protocol_whitelist", "pipe"),
    *("-f", "mp4", "-movflags", "+frag_keyframe+empty_moov+default_base_moof"),
    *("-frag_size", str(MAX_FRAGMENT)),
    "pipe:1",
]
"""Fragmented MP4 on the standard output, a fragment for each group of pictures that is not very large."""


def hls_sound(*, audio: bool) -> list[str]:
    """For browsers: not all of them play Opus in MP4."""
    return AAC if audio else NO_SOUND


def network_arguments(target: Target, *, audio: bool, address: str | None) -> list[str]:
    """FFmpeg's arguments for a far end, reached at `address` where one is given."""
    pinned = address is not None and target.kind is not TargetKind.RTMPS  # whose certificate has the name
    url = target.at(address) if pinned and address is not None else target.url
    common = [*READ, *PROGRESS, *(AAC if audio else NO_SOUND), *WRITE]
    timeout = ["-rw_timeout", str(int(IO_TIMEOUT * 1_000_000))]
    flv = ["-rtmp_live", "live", "-flvflags", "no_duration_filesize", "-f", "flv"]
    match target.kind:
        case TargetKind.RTMP:
            tc = ["-rtmp_tcurl", target.rtmp_app] if pinned else []
            return [*common, "-protocol_whitelist", "rtmp,tcp", *timeout, *tc, *flv, url]
        case TargetKind.RTMPS:
            return [*common, "-protocol_whitelist", "rtmps,tls,tcp", "-tls_verify", "1", *timeout, *flv, url]
        case _:
            return [*common, "-protocol_whitelist", "srt", "-f", "mpegts", url]


def file_arguments(path: str, *, audio: bool) -> list[str]:
    """FFmpeg's arguments for a file: MPEG-TS or fragmented MP4, by its ending. Sound stays Opus."""
    form = ["-f", "mpegts"] if path.lower().endswith(".ts") else FRAGMENTS
    sound = OPUS if audio else NO_SOUND
    return [*READ, *PROGRESS, *sound, *WRITE, "-protocol_whitelist", "file", "-n", *form, f"file:{path}"]


class FfmpegProcess:
    """A running process. `close` follows in every case.

    Its standard output is read by `on_output`, where given; else it is what `-progress` says.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        masked: Callable[[str], str],
        on_output: Callable[[bytes], None] | None,
    ) -> None:
        self.bytes = 0
        """Written by it so far."""
        self.live = False
        """Whether it has written media."""
        self._process = process
        self._masked = masked
        self._on_output = on_output or self._on_progress
        self._said = b""
        self._rest = b""
        self._readers = [
            spawn(self._read(process.stdout, self._on_output), name="ffmpeg-output"),
            spawn(self._read(process.stderr, self._on_error), name="ffmpeg-errors"),
        ]
        assert process.stdin is not None
        process.stdin.transport.set_write_buffer_limits(high=WRITE_BUFFER)

    @classmethod
    async def start(
        cls,
        program: str,
        arguments: Sequence[str],
        masked: Callable[[str], str] = lambda text: text,
        on_output: Callable[[bytes], None] | None = None,
    ) -> FfmpegProcess:
        """Raises FfmpegFailed."""
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *arguments,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                cwd="/",
            )
        except OSError as error:
            raise FfmpegFailed(f"{program} does not start: {error.strerror}") from error
        return cls(process, masked, on_output)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def write(self, data: bytes) -> None:
        """Hand it MPEG-TS; waits while it takes none. Raises FfmpegFailed."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(data)
            await asyncio.wait_for(stdin.drain(), STALL)
        except TimeoutError as error:
            raise FfmpegFailed(f"the far end took nothing for {STALL:.0f} s") from error
        except (OSError, RuntimeError) as error:
            raise FfmpegFailed(await self.ended()) from error

    async def ended(self) -> str:
        """Wait until it has ended; returns its last words."""
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._process.wait()), STOP)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*self._readers, return_exceptions=True), 1.0)
        lines = [_PART.sub("", line) for line in self._said.decode(errors="replace").splitlines()]
        last = "; ".join(filter(None, lines[-LAST_LINES:]))
        return self._masked(last or f"FFmpeg ended with status {self._process.returncode}")[:300]

    async def wait(self) -> None:
        await self._process.wait()

    async def close(self) -> None:
        """End its input, let it finish what it has, and end it where that takes too long. Idempotent."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            with suppress(OSError, RuntimeError):
                stdin.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._process.wait()), STOP)
        finally:
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    self._process.kill()
                stdin.transport.abort()
            await self._process.wait()
            await cancel(*self._readers)

    async def _read(self, stream: asyncio.StreamReader | None, take: Callable[[bytes], None]) -> None:
        assert stream is not None
        while data := await stream.read(65_536):
            take(data)

    def _on_error(self, data: bytes) -> None:
        self._said = (self._said + data)[-MAX_SAID:]

    def _on_progress(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data)[-MAX_SAID:].split(b"\n")
        for line in lines:
            name, _, value = line.partition(b"=")
            if name == b"total_size" and value.isdigit():
                self.bytes = int(value)
            elif name == b"out_time_us" and value.isdigit():
                self.live = self.live or int(value) > 0
