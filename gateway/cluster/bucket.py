"""Keys and values in NATS (JetStream KV), each changed only by who knows its revision.

A key is removed by deleting its one message, which is named by its revision: removing what somebody else has
written meanwhile is thus impossible, and no marker stays behind, as nats-py's `delete` would leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from nats.js.kv import KeyValue

from gateway.cluster.bus import Bus
from gateway.cluster.errors import ClusterAway, KeyTaken

T = TypeVar("T")

TIMEOUT = 2.0
"""Seconds for one operation."""
TRIES = 3
TRY_AGAIN = 0.1
"""Seconds between two tries of a write that no stream took: one that another node makes at this moment does
not listen yet, one that moves to another server not any more."""
DUPLICATE_WINDOW = 120.0
NO_SUCH_MESSAGE = 10057
"""JetStream's code for a message to delete that is not there (any more)."""


@dataclass(frozen=True)
class BucketEntry:
    """The value of a key."""

    value: bytes
    revision: int
    """Grows with each write to the bucket."""


class Bucket:
    """One bucket, made when it is first used. All methods raise ClusterAway without NATS or JetStream."""

    def __init__(self, bus: Bus, name: str, *, ttl: float | None = None, in_memory: bool = False) -> None:
        """`ttl`: seconds after which NATS removes a key that was not written again; None keeps it."""
        self._bus = bus
        self._name = name
        self._ttl = ttl
        self._in_memory = in_memory
        self._opened: tuple[Client, JetStreamContext, KeyValue] | None = None

    @property
    def subject(self) -> str:
        """What each write is published on, followed by the key; who may only watch subscribes to it."""
        return f"$KV.{self._name}."

    async def get(self, key: str) -> BucketEntry | None:
        _, bucket = await self._open()
        try:
            entry = await _translated(bucket.get(key), nats.js.errors.KeyNotFoundError)
        except nats.js.errors.KeyNotFoundError:
            return None
        return BucketEntry(entry.value or b"", entry.revision or 0)

    async def put(self, key: str, value: bytes) -> int:
        """Write, whatever is there; gives the revision."""
        _, bucket = await self._open()
        return await _translated(_taken(lambda: bucket.put(key, value)))

    async def create(self, key: str, value: bytes) -> int:
        """Write where there is nothing; gives the revision. Raises KeyTaken."""
        return await self.update(key, value, 0)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write where the newest revision is this one; gives the new one. Raises KeyTaken."""
        _, bucket = await self._open()
        try:
            changed = nats.js.errors.KeyWrongLastSequenceError
            return await _translated(_taken(lambda: bucket.update(key, value, last=revision)), changed)
        except nats.js.errors.KeyWrongLastSequenceError:
            raise KeyTaken(f"{key} was changed meanwhile") from None

    async def remove(self, revision: int) -> bool:
        """Remove the key with this revision; false where it was changed or removed meanwhile."""
        context, _ = await self._open()
        try:
            deleted = context.delete_msg(self._stream, revision)
            return bool(await _translated(deleted, nats.js.errors.APIError))
        except nats.js.errors.APIError as error:
            if error.err_code == NO_SUCH_MESSAGE:
                return False
            raise ClusterAway(f"NATS does not remove a key: {error}") from None

    async def keys(self) -> list[str]:
        """All keys that have a value."""
        context, _ = await self._open()
        info = await _translated(context.stream_info(self._stream, subjects_filter=">"))
        return [subject.removeprefix(self.subject) for subject in info.state.subjects or {}]

    @property
    def _stream(self) -> str:
        return f"KV_{self._name}"

    async def _open(self) -> tuple[JetStreamContext, KeyValue]:
        client = self._bus.client
        if self._opened is None or self._opened[0] is not client:
            context = client.jetstream(timeout=TIMEOUT)
            with suppress(nats.js.errors.APIError):  # it is there already, as its operator has configured it
                await _translated(context.add_stream(self._config()), nats.js.errors.APIError)
            self._opened = (client, context, await _translated(context.key_value(self._name)))
        return self._opened[1:]

    def _config(self) -> StreamConfig:
        return StreamConfig(
            name=self._stream,
            subjects=[f"{self.subject}>"],
            max_msgs_per_subject=1,
            max_age=self._ttl,
            storage=StorageType.MEMORY if self._in_memory else StorageType.FILE,
            discard=DiscardPolicy.NEW,
            duplicate_window=min(DUPLICATE_WINDOW, self._ttl or DUPLICATE_WINDOW),
            allow_direct=False,  # a replica that lags behind would give an old owner
        )


async def _taken(write: Callable[[], Awaitable[int]]) -> int:
    """What `write` gives, tried again where no stream took it, which is thus not written."""
    for _ in range(TRIES - 1):
        with suppress(nats.js.errors.NoStreamResponseError):
            return await write()
        await asyncio.sleep(TRY_AGAIN)
    return await write()


async def _translated(operation: Awaitable[T], *told: type[nats.js.errors.APIError]) -> T:
    """What it gives; what means that NATS or JetStream does not serve becomes ClusterAway.

    So does any other refusal of JetStream's, such as that its storage is used up, but for those that the
    caller is to be `told`.
    """
    try:
        return await operation
    except (
        nats.js.errors.NoStreamResponseError,
        nats.js.errors.ServiceUnavailableError,
        nats.js.errors.BucketNotFoundError,
    ) as error:
        raise ClusterAway(f"JetStream does not serve: {error}") from None
    except told:
        raise
    except nats.js.errors.APIError as error:
        raise ClusterAway(f"JetStream refuses: {error}") from None
    except nats.js.errors.Error:
        raise
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise ClusterAway(f"NATS does not answer: {error or type(error).__name__}") from None
