"""Trickle channels that an app makes for its session, with the session's token."""

from __future__ import annotations

import re
from typing import Any

from gateway.devnet.live_runners.dialect import Dialect
from gateway.devnet.live_runners.refusal import RequestRefused
from gateway.devnet.live_runners.registry import RunnerRegistry
from gateway.devnet.live_runners.session import LiveSession
from gateway.devnet.trickle_server import TrickleServer

MAX_CHANNELS_A_CALL = 25
MAX_CHANNELS = 768
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

Json = dict[str, Any]


class SessionChannels:
    """Makes and removes the channels of sessions."""

    def __init__(self, dialect: Dialect, registry: RunnerRegistry, trickle: TrickleServer) -> None:
        self._dialect = dialect
        self._registry = registry
        self._trickle = trickle

    def create(self, session: LiveSession, document: object) -> Json:
        """Make the channels that the body names; returns the answer. Raises RequestRefused."""
        wanted = document.get("channels") if isinstance(document, dict) else None
        if not isinstance(wanted, list) or len(wanted) > MAX_CHANNELS_A_CALL:
            raise RequestRefused(400, "invalid channels request")
        asked = [_named(one) for one in wanted]
        if len(self._trickle.names()) + len(asked) > MAX_CHANNELS:
            raise RequestRefused(503, "too many channels")
        made = []
        for name, mime_type in asked:
            channel_name = self._dialect.channel_name(session.id, name)
            if channel_name not in session.channels:
                self._trickle.create(channel_name, content_type=mime_type)
                session.channels[channel_name] = name
            made.append(self._registry.channel_json(name, channel_name, mime_type))
        return {"channels": made}

    def remove(self, session: LiveSession, document: object) -> Json:
        """Close channels that the body names, by either name; returns the answer. Raises RequestRefused."""
        wanted = document.get("channels") if isinstance(document, dict) else None
        if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
            raise RequestRefused(400, "invalid channels request")
        deleted = []
        for name in wanted:
            for channel_name, given in tuple(session.channels.items()):
                if name in (channel_name, given):
                    del session.channels[channel_name]
                    self._trickle.terminate(channel_name)
                    deleted.append(name)
        return {"deleted": deleted}


def _named(one: object) -> tuple[str, str]:
    name, mime_type = (one.get("name"), one.get("mime_type")) if isinstance(one, dict) else (None, None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RequestRefused(400, "a channel needs a name of letters, digits, _ and -")
    if not isinstance(mime_type, str) or not mime_type or len(mime_type) > 100:
        raise RequestRefused(400, "a channel needs a mime_type")
    return name, mime_type
