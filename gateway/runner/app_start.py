"""Starts an app in its session, and finds its channels in the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

from gateway.aio.inside import Reach
from gateway.orchestrator.errors import BadAnswer, OrchestratorError, UnknownOutcome, Unreachable
from gateway.orchestrator.urls import complete
from gateway.runner.client import TIMEOUT, RunnerClient
from gateway.runner.errors import AppAway
from gateway.runner.json_fields import find_text
from gateway.runner.profile import AppProfile

RETRY = 0.5
"""Seconds between two tries while the app is not ready."""
MAX_AWAY = 3.0
"""Seconds for which an app may not be reached: it is gone, and its orchestrator has not noticed."""


@dataclass(frozen=True, slots=True)
class AppChannels:
    """The trickle channels of an app's session. Their URLs are all that they ask for: they are secrets."""

    input: str = field(repr=False, default="")
    output: str = field(repr=False, default="")
    """Both are empty until messages have started an app that is started by them."""
    text: str = field(repr=False, default="")
    """Empty: the app sends no text."""
    control: str = field(repr=False, default="")
    events: str = field(repr=False, default="")
    """Empty: the app takes no messages."""
    sound: str = field(repr=False, default="")
    """Of sound that does not come with the pictures; empty: there is none."""

    @property
    def urls(self) -> tuple[str, ...]:
        """Those that are there."""
        return tuple(url for url in astuple(self) if url)

    @classmethod
    def parse(cls, answer: Mapping[str, Any], profile: AppProfile, base: str) -> AppChannels:
        """The channels in a start's answer; `base`, the app's URL, completes relative ones.

        Raises ValueError.
        """
        names, handshake = profile.channels, profile.handshake
        if handshake is not None:
            return cls(
                control=_channel(answer, handshake.control, base),
                events=_channel(answer, handshake.events, base),
            )
        text = find_text(answer, names.text)
        return cls(
            input=_channel(answer, names.input, base),
            output=_channel(answer, names.output, base),
            text=complete(text, base) if text else "",
        )


async def start_app(
    client: RunnerClient, app_url: str, reach: Reach, profile: AppProfile, params: Mapping[str, Any]
) -> AppChannels:
    """Call the app with a stream's parameters; tried again while it is not ready, up to its time limit.

    Where it cannot be reached at all, that is MAX_AWAY.

    Raises AppRefused where it does not take the parameters, or another OrchestratorError.
    """
    deadline = time.monotonic() + profile.start.timeout
    body = profile.start_body(params)
    reached = time.monotonic()
    while True:
        left = deadline - time.monotonic()
        try:
            answer = await client.call_app(
                f"{app_url}{profile.start.path}",
                reach,
                body,
                errors=profile.errors,
                timeout=max(left, TIMEOUT),
            )
        except (UnknownOutcome, Unreachable) as error:
            now = time.monotonic()
            reached = reached if isinstance(error, AppAway | Unreachable) else now
            if min(deadline, reached + MAX_AWAY) - now < RETRY:
                raise OrchestratorError(f"the app was not ready in time: {error.detail}") from error
            await asyncio.sleep(RETRY)
            continue
        try:
            return AppChannels.parse(answer, profile, app_url)
        except ValueError as error:
            raise BadAnswer(str(error)) from error


def _channel(answer: Mapping[str, Any], name: str, base: str) -> str:
    url = find_text(answer, name)
    if not url:
        raise ValueError(f"the app's answer has no channel {name}")
    return complete(url, base)
