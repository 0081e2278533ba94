"""The flags that concern events for others, and the settings that come out of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gateway.events.signature import parse_secret
from gateway.flags import LIST, PATH, URL, Flag, FlagError, Kind, Parsed


def _parse_secrets(value: str) -> tuple[bytes, ...]:
    return tuple(parse_secret(one) for one in LIST.parse(value))


SECRETS = Kind(
    "secret,..", "whsec_ and 24 to 64 bytes as base64, comma-separated for several", _parse_secrets
)

EVENT_FLAGS: tuple[Flag, ...] = (
    Flag("eventWebhookUrl", URL, None, "POST events to this URL, signed after Standard Webhooks"),
    Flag("eventWebhookSecret", SECRETS, None, "Sign events with these whsec_ secrets, comma-separated"),
    Flag("eventsFile", PATH, None, "Append events to this file, one JSON object a line"),
)


@dataclass(frozen=True)
class EventSettings:
    """Where events go, beside who reads them over HTTP."""

    webhook: str | None = None
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    file: Path | None = None

    @classmethod
    def from_parsed(cls, parsed: Parsed) -> EventSettings:
        """Raises FlagError."""
        url, secrets = parsed["eventWebhookUrl"], parsed["eventWebhookSecret"]
        if (url is None) != (secrets is None):
            given, missing = (
                ("eventWebhookSecret", "eventWebhookUrl")
                if url is None
                else ("eventWebhookUrl", "eventWebhookSecret")
            )
            raise FlagError(f"-{given} needs -{missing}")
        return cls(url, secrets or (), parsed["eventsFile"])
