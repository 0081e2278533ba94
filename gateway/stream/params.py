"""The parameters that a stream's worker has, bounded in size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.stream.seam import UpdateRefused

MAX_PARAMS = 1024 * 1024 - 4096
"""Limit in bytes as JSON: a job's start, with all of them and what else it says, has at most 1 MiB."""


@dataclass(frozen=True)
class WorkerParams:
    """Those of the publish, and of updates.

    Kinds of workers differ: a ComfyStream server changes what an update names and keeps the rest, so that a
    later job needs `values`. For a worker on the network an update is the whole set, and it forgets all that
    is not in it, so that a later job needs the publish's and `last_update`.
    """

    values: Mapping[str, Any]
    """Those of the publish and of all updates together, the newest last."""
    size: int
    """Bytes of the values as JSON; `last_update` is among them."""
    last_update: Mapping[str, Any] | None = None
    """The newest update as it was; None before the first."""

    @property
    def newest(self) -> Mapping[str, Any]:
        """What a worker has for which an update is the whole set."""
        return self.values if self.last_update is None else self.last_update

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> WorkerParams:
        return cls(values, json_size(values))

    def updated(self, newer: Mapping[str, Any]) -> WorkerParams:
        """These and newer ones. Raises UpdateRefused (`too_large`) where all together are too large.

        `type` is none of them: it names a message. What has nothing else in it changes nothing.
        """
        if newer.keys() == {"type"}:
            return self
        update = newer
        newer = {key: value for key, value in update.items() if key != "type"}
        kept = {key: value for key, value in self.values.items() if key not in newer}
        replaced = {key: value for key, value in self.values.items() if key in newer}
        # the part with fewer keys is measured: mostly there is nothing in it
        few = len(kept) < len(replaced)
        size = (json_size(kept) if few else self.size - json_size(replaced)) + json_size(newer)
        if size > MAX_PARAMS:
            raise UpdateRefused(
                "too_large",
                f"with these the stream's parameters would have {size} bytes as JSON, and may have "
                f"{MAX_PARAMS}: replace keys that it has, or send less",
            )
        return WorkerParams({**kept, **newer}, size, update)


def json_size(values: Mapping[str, Any]) -> int:
    """Bytes that these take in a JSON object, so that sizes of parts add up."""
    return len(json.dumps(values)) if values else 0
