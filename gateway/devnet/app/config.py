"""Configuration of the devnet's app."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.devnet.orchestrator.conduct import HONEST, Conduct

APPS = {"http": "livepeer-example/echo", "messages": "live-video-to-video/scope"}
"""The app for each way in which sessions are started."""
APP = APPS["http"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppConfig:
    """`orchestrator` is the URL at which it registers with `secret`; None: it does not register.

    `price` is USD for each `unit` (`hour`, or `720p` per hour), as a decimal. `warm_up` is seconds before a
    session's start is answered. `text` gives each session a channel of texts.
    """

    host: str = "127.0.0.1"
    port: int = 0
    orchestrator: str | None = None
    secret: str = field(default="", repr=False)
    app: str = APP
    price: str = "0"
    unit: str = "hour"
    capacity: int = 1
    warm_up: float = 0.0
    text: bool = False
    conduct: Conduct = HONEST
    """Whether, and how often, it gives pictures."""
