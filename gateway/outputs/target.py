"""Where an output goes: a URL, checked before anything is made of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_URL = 2_048
MIN_SECRET = 3
"""A shorter part of a URL's path is left in FFmpeg's words: it hides nothing and would blot out others."""

_URL = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&()*+,;=%{}-]+")
"""Printable, without spaces, quotes and backslashes: FFmpeg reads options behind a space in some URLs."""
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}")
_SRT_OPTIONS = frozenset({"streamid", "passphrase", "pbkeylen", "latency", "mode", "pkt_size"})
_ANY_URL = re.compile(r"\b(?:rtmps?|srt|tls|tcp|udp|file):\S+")
PORTS = {"rtmp": 1935, "rtmps": 443, "srt": None}


class BadTarget(ValueError):
    """A URL that no output can go to; the text is a sentence that does not repeat it."""


class TargetKind(StrEnum):
    RTMP = "rtmp"
    RTMPS = "rtmps"
    SRT = "srt"
    FILE = "file"


@dataclass(frozen=True)
class Target:
    """One place to send a stream to. `url` is a secret: people are shown `shown`."""

    kind: TargetKind
    url: str
    host: str = ""
    port: int = 0
    path: Path | None = None
    """Of a file."""

    @property
    def shown(self) -> str:
        """Scheme and host."""
        if self.kind is TargetKind.FILE:
            return "file:"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}://{host}:{self.port}"

    @property
    def is_network(self) -> bool:
        return self.kind is not TargetKind.FILE

    def of(self, stream: str) -> Target:
        """That of one stream: `{stream}` in a server's URL replaced; names need no quoting."""
        return replace(self, url=self.url.replace("{stream}", stream)) if self.is_network else self

    def at(self, address: str) -> str:
        """Its URL with an address in the place of the host's name."""
        parts = urlsplit(self.url)
        user = parts.netloc.rpartition("@")[0]
        place = f"[{address}]" if ":" in address else address
        return parts._replace(netloc=f"{user}{'@' if user else ''}{place}:{self.port}").geturl()

    @property
    def rtmp_app(self) -> str:
        """RTMP's tcUrl, by the name of the host: the path without what FFmpeg takes for the stream's key."""
        words = urlsplit(self.url).path.lstrip("/").split("/")
        app = words[:1] if len(words) < 3 else words[:2]
        place = self.shown.partition("://")[2]
        return f"{self.kind}://{place}/{'/'.join(app)}"

    def masked(self, text: str) -> str:
        """FFmpeg's words without what is secret in the URL."""
        text = _ANY_URL.sub(self.shown, text)
        parts = urlsplit(self.url)
        secrets = [*parts.path.split("/"), *(value for _, value in parse_qsl(parts.query))]
        secrets += [unquote(one) for one in secrets] + [parts.password or "", parts.username or ""]
        for secret in sorted(set(secrets), key=len, reverse=True):
            if len(secret) >= MIN_SECRET:
                text = text.replace(secret, "..")
        return text


def parse_target(url: str) -> Target:
    """The target of a URL. Raises BadTarget."""
    if len(url) > MAX_URL:
        raise BadTarget(f"its URL has more than {MAX_URL} characters")
    if not _URL.fullmatch(url):
        raise BadTarget(
            "its URL has characters that do not belong there: write spaces and quotes as %20, %22"
        )
    try:
        parts = urlsplit(url)
        scheme, port, host = parts.scheme.lower(), parts.port, parts.hostname or ""
    except ValueError as error:
        raise BadTarget("its URL cannot be read") from error
    if scheme == "file":
        return _file(url)
    if scheme not in PORTS:
        raise BadTarget(
            f"outputs go to rtmp://, rtmps:// and srt:// URLs, not to {scheme[:20] or 'such'} ones"
        )
    if not _HOST.fullmatch(host):
        raise BadTarget("its URL names no host")
    port = PORTS[scheme] if port is None else port
    if not port:
        raise BadTarget(f"an {scheme}:// URL needs a port, as in srt://host:9000")
    if scheme == "srt":
        _check_srt(parts.query, parts.path)
    elif len(parts.path) < 2:
        raise BadTarget(f"an {scheme}:// URL needs a path, as in {scheme}://host/app/key")
    return Target(TargetKind(scheme), url, host, port)


def _check_srt(query: str, path: str) -> None:
    if path not in ("", "/"):
        raise BadTarget("an srt:// URL has no path: name the stream by ?streamid=")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in _SRT_OPTIONS:
            known = ", ".join(sorted(_SRT_OPTIONS))
            raise BadTarget(f"an srt:// URL may have {known} behind the ?, and nothing else")
    if options.get("mode", "caller") != "caller":
        raise BadTarget("the gateway calls by SRT, it does not listen: leave mode= out")


def _file(url: str) -> Target:
    path = Path("/" + url[len("file:") :].lstrip("/"))
    if not url[len("file:") :].startswith("/") or ".." in path.parts:
        raise BadTarget("a file: URL has an absolute path, as in file:/srv/{stream}.mp4")
    if path.suffix.lower() not in (".mp4", ".ts"):
        raise BadTarget("a file: URL ends in .mp4 or .ts")
    return Target(TargetKind.FILE, url, path=path)


def file_of(target: Target, stream: str, time: str) -> Path:
    """The file of a target for a stream: `{stream}` and `{time}` in its path replaced.

    Raises ValueError where the name would lead out of its folder.
    """
    assert target.path is not None
    if stream.strip(".") == "":
        raise ValueError(f"no file is called {stream!r}")
    return Path(str(target.path).replace("{stream}", stream).replace("{time}", time))
