"""What an operator says about ComfyStream servers of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.comfystream.errors import BadParams
from gateway.comfystream.prompts import Template
from gateway.flags import DURATION, LIST, PATH, URL, Flag, FlagError, Kind, Parsed, choice


def _parse_urls(value: str) -> tuple[str, ...]:
    urls = (one if "://" in one else f"http://{one}" for one in LIST.parse(value))
    return tuple(URL.parse(url) for url in urls)


URLS = Kind("url,..", "http or https URLs, comma-separated", _parse_urls)

COMFY_FLAGS: tuple[Flag, ...] = (
    Flag(
        "comfyStreamUrl",
        URLS,
        None,
        "Use these ComfyStream servers of your own, one stream each, not the network",
    ),
    Flag(
        "comfyWorkflow",
        PATH,
        None,
        "Put prompts into the text node of this ComfyUI workflow (API form)",
        "prompts in words are refused",
    ),
    Flag(
        "comfyStreamFallback",
        choice("none", "network", "comfystream"),
        "none",
        "Use this kind where the other one, which is then tried first, has no room",
    ),
    Flag(
        "comfyStreamRestart",
        DURATION,
        "60s",
        "Let a stream wait this long for its only ComfyStream server to restart",
    ),
)


@dataclass(frozen=True)
class ComfySettings:
    """Which servers there are, and when they are used."""

    urls: tuple[str, ...]
    """URLs of ComfyStream servers."""
    first: bool
    """Whether they are used before the network."""
    fallback: bool
    """Whether the other one is used where the first choice cannot be."""
    workflow: Template | None
    restart: float
    """Seconds that a stream waits for the only server to restart."""

    @classmethod
    def from_parsed(cls, parsed: Parsed) -> ComfySettings:
        """Raises FlagError for a workflow of no use."""
        return cls(
            urls=parsed["comfyStreamUrl"] or (),
            first=_first(parsed),
            fallback=parsed["comfyStreamFallback"] != "none",
            workflow=_workflow(parsed["comfyWorkflow"]),
            restart=parsed["comfyStreamRestart"],
        )


def _first(parsed: Parsed) -> bool:
    """Whether streams that ask for nothing go to the own servers first."""
    fallback = parsed["comfyStreamFallback"]
    return bool(fallback == "network" if fallback != "none" else parsed["comfyStreamUrl"])


def _workflow(path: Path | None) -> Template | None:
    if path is None:
        return None
    try:
        return Template.read(path)
    except BadParams as error:
        raise FlagError(
            f"-comfyWorkflow {path} is refused ({error}): it takes a ComfyUI workflow in API form"
        ) from error
