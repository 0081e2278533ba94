"""Where outputs go: a far end, or a file."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from gateway.outputs.disk import new_file, until_full
from gateway.outputs.ffmpeg import FfmpegFailed, file_arguments, network_arguments
from gateway.outputs.hosts import HostRules
from gateway.outputs.output import DestinationGone
from gateway.outputs.target import BadTarget, Target, file_of


class FarEnd:
    """A server by RTMP or SRT. `rules` are None for one that the operator names."""

    on_output = None

    def __init__(self, target: Target, rules: HostRules | None) -> None:
        self.target = target
        self._rules = rules

    @property
    def shown(self) -> str:
        return self.target.shown

    async def begin(self, *, audio: bool) -> list[str]:
        try:
            address = None if self._rules is None else await self._rules.address_of(self.target)
        except BadTarget as error:
            raise FfmpegFailed(str(error)) from error
        return network_arguments(self.target, audio=audio, address=address)

    def is_due(self) -> bool:
        return False

    async def interrupted(self) -> None:
        await asyncio.Event().wait()

    async def ended(self, written: int) -> None:
        """Nothing is left to do."""

    def masked(self, text: str) -> str:
        return self.target.masked(text)


class FileEnd:
    """A file of the operator's, a new one for each process."""

    on_output = None

    def __init__(self, target: Target, stream: str) -> None:
        self.target = target
        self._stream = stream
        self._folder: Path | None = None

    @property
    def shown(self) -> str:
        return self.target.shown

    async def begin(self, *, audio: bool) -> list[str]:
        time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        try:
            path = await asyncio.to_thread(new_file, file_of(self.target, self._stream, time))
        except (OSError, ValueError) as error:
            raise DestinationGone(f"the file cannot be written: {error}") from error
        self._folder = path.parent
        return file_arguments(str(path), audio=audio)

    def is_due(self) -> bool:
        return False

    async def interrupted(self) -> None:
        assert self._folder is not None
        await until_full(self._folder)

    async def ended(self, written: int) -> None:
        """Nothing is left to do."""

    def masked(self, text: str) -> str:
        return text.replace(str(self.target.path), self.shown)
