"""The trickle channels that an app has its orchestrator make for a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp

TIMEOUT = 5.0


class NoChannels(Exception):
    """The orchestrator made no channels for the session."""


@dataclass(frozen=True, slots=True)
class MadeChannel:
    """`url` is for clients, `internal_url` for the app."""

    url: str
    internal_url: str


class ChannelMaker:
    """`headers` are those that the orchestrator's proxy adds to each request of the session."""

    def __init__(self, http: aiohttp.ClientSession, headers: Mapping[str, str]) -> None:
        self.session_id = headers.get("Livepeer-Session-Id", "")
        self._http = http
        self._control = headers.get("Livepeer-Session-Control", "")
        self._token = headers.get("Livepeer-Session-Token", "")

    async def make(self, wanted: Sequence[tuple[str, str]]) -> dict[str, MadeChannel]:
        """Channels of these names and MIME types, by name. Raises NoChannels."""
        try:
            async with self._http.post(
                f"{self._control}/channels",
                json={"channels": [{"name": name, "mime_type": mime} for name, mime in wanted]},
                headers={"Livepeer-Session-Token": self._token},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            ) as answer:
                if answer.status != 200:
                    raise NoChannels(f"the orchestrator answered {answer.status}")
                return {
                    one["name"]: MadeChannel(one["url"], one.get("internal_url") or one["url"])
                    for one in (await answer.json(content_type=None))["channels"]
                }
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            raise NoChannels(f"the orchestrator cannot be reached: {type(error).__name__}") from error
