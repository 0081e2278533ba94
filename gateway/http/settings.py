"""What an operator says about who may knock, where, and how much they may take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.flags import (
    ADDRESS,
    BASE_URL,
    DURATION,
    INTEGER,
    PATH,
    TEXT,
    URL,
    Flag,
    FlagError,
    Kind,
    Parsed,
    within,
)
from gateway.http.forwarding import Network, parse_networks
from gateway.http.limits import Limits
from gateway.http.tokens import TokenFile
from signer_client.client import parse_headers

LOOPBACK_CLI_PORT = 5935

NETWORKS = Kind("networks", "addresses or networks such as 10.0.0.0/8, comma-separated", parse_networks)
HEADERS = Kind("headers", "name:value,name2:value2", parse_headers, secret=True)
HEARTBEAT_INTERVAL = within(DURATION, "100ms or more", lambda seconds: seconds >= 0.1)

FRONT_FLAGS: tuple[Flag, ...] = (
    Flag("httpAddr", ADDRESS, "127.0.0.1:9935", "where WHIP, WHEP, the stream API and the page are served"),
    Flag(
        "externalUrl",
        BASE_URL,
        None,
        "the URL that clients reach -httpAddr by, a path prefix included: Location headers start with it",
    ),
    Flag(
        "trustedProxies",
        NETWORKS,
        None,
        "addresses or networks of proxies whose X-Forwarded-For, -Proto, -Host and -Prefix are believed",
    ),
    Flag(
        "cliAddr",
        ADDRESS,
        None,
        "where the operator's routes are served (metrics, debug state)",
        "-httpAddr where that is loopback, else 127.0.0.1:5935",
    ),
    Flag("httpsCert", PATH, None, "the certificate chain (PEM) with which -httpAddr speaks https"),
    Flag("httpsKey", PATH, None, "the private key (PEM) of -httpsCert"),
    Flag(
        "publishTokens", PATH, None, "a file of tokens, one a line: who may publish, update and stop streams"
    ),
    Flag("playTokens", PATH, None, "a file of tokens, one a line: who may watch"),
    Flag("liveAIAuthWebhookUrl", URL, None, "asked about each publisher before it is answered"),
    Flag("liveAIAuthApiKey", TEXT, None, "sent to the auth webhook as x-api-key and Authorization"),
    Flag("liveAIHeartbeatURL", URL, None, "told which streams are live; answers which of them are to end"),
    Flag("liveAIHeartbeatInterval", HEARTBEAT_INTERVAL, "5s", "time between heartbeats"),
    Flag("liveAIHeartbeatHeaders", HEADERS, None, "headers for heartbeats: name:value,name2:value2"),
    Flag(
        "maxStreams", INTEGER, "256", "streams at once; 0 lifts this limit, as it does each of the next five"
    ),
    Flag("maxStreamsPerAddress", INTEGER, "128", "streams that one address may publish at once"),
    Flag("maxViewers", INTEGER, "2000", "viewers at once"),
    Flag("maxViewersPerStream", INTEGER, "1000", "viewers of one stream at once"),
    Flag("maxViewersPerAddress", INTEGER, "400", "viewers from one address at once"),
    Flag("maxRequestsPerAddress", INTEGER, "200", "requests a second from one address"),
)


@dataclass(frozen=True)
class Heartbeats:
    """Where heartbeats go, how often (seconds), with which headers."""

    url: str
    interval: float
    headers: dict[str, str]


@dataclass(frozen=True)
class FrontSettings:
    """The listeners, and what guards them. Durations are seconds."""

    http_addr: tuple[str, int]
    external_url: str | None
    trusted_proxies: tuple[Network, ...]
    cli_addr: tuple[str, int] | None
    """None: the operator's routes are served beside the public ones."""
    tls: tuple[Path, Path] | None
    """Certificate chain and private key for https."""
    publish_tokens: Path | None
    play_tokens: Path | None
    auth_webhook: str | None
    auth_api_key: str | None
    heartbeat: Heartbeats | None
    limits: Limits

    @classmethod
    def from_parsed(cls, parsed: Parsed) -> FrontSettings:
        """Raises FlagError with a sentence for what does not fit."""
        return cls(
            http_addr=parsed["httpAddr"],
            external_url=parsed["externalUrl"],
            trusted_proxies=parsed["trustedProxies"] or (),
            cli_addr=_cli_addr(parsed["cliAddr"], parsed["httpAddr"]),
            tls=_tls(parsed),
            publish_tokens=_tokens(parsed, "publishTokens"),
            play_tokens=_tokens(parsed, "playTokens"),
            auth_webhook=parsed["liveAIAuthWebhookUrl"],
            auth_api_key=parsed["liveAIAuthApiKey"],
            heartbeat=_heartbeat(parsed),
            limits=Limits(
                streams=parsed["maxStreams"],
                streams_per_address=parsed["maxStreamsPerAddress"],
                viewers=parsed["maxViewers"],
                viewers_per_stream=parsed["maxViewersPerStream"],
                viewers_per_address=parsed["maxViewersPerAddress"],
                requests_per_address=parsed["maxRequestsPerAddress"],
            ),
        )


def _tls(parsed: Parsed) -> tuple[Path, Path] | None:
    certificate, key = parsed["httpsCert"], parsed["httpsKey"]
    if (certificate is None) != (key is None):
        given, missing = ("httpsKey", "httpsCert") if certificate is None else ("httpsCert", "httpsKey")
        raise FlagError(f"-{given} needs -{missing} beside it")
    if certificate is None:
        return None
    for name in ("httpsCert", "httpsKey"):
        if not parsed[name].is_file():
            raise FlagError(f"-{name} {parsed[name]} is refused: it takes a PEM file, and there is none")
    return certificate, key


def _tokens(parsed: Parsed, name: str) -> Path | None:
    path: Path | None = parsed[name]
    if path is not None:
        try:
            TokenFile(path).check()
        except (OSError, ValueError) as error:
            raise FlagError(f"-{name} {path} is refused ({error}): it takes a file of tokens") from error
    return path


def _heartbeat(parsed: Parsed) -> Heartbeats | None:
    url, interval = parsed["liveAIHeartbeatURL"], parsed["liveAIHeartbeatInterval"]
    return None if url is None else Heartbeats(url, interval, parsed["liveAIHeartbeatHeaders"] or {})


def _cli_addr(given: tuple[str, int] | None, http_addr: tuple[str, int]) -> tuple[str, int] | None:
    if given is not None:
        return given if given != http_addr else None
    return None if is_loopback(http_addr[0]) else ("127.0.0.1", LOOPBACK_CLI_PORT)


def is_loopback(host: str) -> bool:
    """Whether a host that is listened on can be reached from this machine only."""
    return host in {"localhost", "::1"} or host.startswith("127.")
