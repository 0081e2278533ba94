"""The flags that concern HTTP: addresses, access and limits; and the settings that come out of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

from gateway.flags import (
    ADDRESS,
    BASE_URL,
    BOOLEAN,
    DURATION,
    INTEGER,
    LIST,
    PATH,
    POSITIVE_DURATION,
    POSITIVE_NUMBER,
    TEXT,
    URL,
    Flag,
    FlagError,
    Kind,
    Parsed,
    within,
)
from gateway.http.connections import ConnectionLimits
from gateway.http.forwarding import IpNetwork, parse_networks
from gateway.http.limits import ClientLimits
from gateway.http.origins import ANY
from gateway.http.tokens import TokenFile
from gateway.network.settings import HEADERS

LOOPBACK_CLI_PORT = 5935
JWT_AUDIENCE = "livepeer-gateway"
MIN_SECRET = 32
_KEY_FILE = re.compile(rb"----[- ]BEGIN |\A(ssh|ecdsa)-")
"""In files of PEM and SSH keys, which are no secrets of HS256: a public key is everybody's."""


def _parse_origins(value: str) -> tuple[str, ...]:
    origins: tuple[str, ...] = LIST.parse(value)
    for origin in origins:
        parts = urlsplit(origin)
        if origin != ANY and (origin != f"{parts.scheme}://{parts.netloc}" or not parts.netloc):
            raise ValueError(value)
    return origins


def _parse_listen_address(value: str) -> tuple[str, int]:
    """As ADDRESS; without a host it is all addresses, of IPv4 and IPv6."""
    host, port = ADDRESS.parse(value)
    return ("::" if value.startswith(":") and value.count(":") == 1 else host), port


def _parse_secret(value: str) -> bytes:
    """The secret, or what the file of that path has."""
    path = Path(value).expanduser()
    try:
        secret = path.read_bytes().strip() if path.is_file() else value.encode()
    except OSError as error:
        raise ValueError(value) from error
    if len(secret) < MIN_SECRET or _KEY_FILE.search(secret):
        raise ValueError(value)
    return secret


SECRET = Kind(
    "secret|path",
    f"a text of {MIN_SECRET} bytes or more, or a file of it, no PEM or SSH key",
    _parse_secret,
    True,
)
LISTEN_ADDRESS = replace(ADDRESS, parse=_parse_listen_address)
LOOPBACK_ADDRESS = within(
    ADDRESS, "host:port on loopback, such as 127.0.0.1:9936", lambda address: is_loopback(address[0])
)
NETWORKS = Kind("networks", "addresses or networks such as 10.0.0.0/8, comma-separated", parse_networks)
ORIGINS = Kind("origin,..", "origins such as https://video.example, comma-separated, or *", _parse_origins)
HEARTBEAT_INTERVAL = within(DURATION, "100ms or more", lambda seconds: seconds >= 0.1)

HTTP_FLAGS: tuple[Flag, ...] = (
    Flag(
        "httpAddr", LISTEN_ADDRESS, "127.0.0.1:9935", "Serve WHIP, WHEP, the stream API and the web page here"
    ),
    Flag(
        "externalUrl",
        BASE_URL,
        None,
        "Begin links with this URL, by which clients reach -httpAddr",
        "links without a host",
    ),
    Flag(
        "corsOrigins",
        ORIGINS,
        None,
        "Let pages of these origins publish, watch and read, comma-separated; * for all",
        "all where tokens or a webhook guard publishing or nothing is paid, else none",
    ),
    Flag(
        "allowedHosts",
        LIST,
        None,
        "Answer to these names, too, where -httpAddr is on loopback or private",
        "localhost, this machine's name, and those of -httpAddr and -externalUrl",
    ),
    Flag(
        "frameAncestors",
        ORIGINS,
        None,
        "Let pages of these origins show /watch in a frame, comma-separated; * for all",
        "the gateway's own pages only",
    ),
    Flag(
        "trustedProxies",
        NETWORKS,
        None,
        "Trust X-Forwarded-For, -Proto, -Host and -Prefix from these addresses",
    ),
    Flag(
        "cliAddr",
        LISTEN_ADDRESS,
        None,
        "Serve the operator's routes here: metrics, orchestrators, debug state",
        "-httpAddr where that is loopback and no proxy is named, else 127.0.0.1:5935",
    ),
    Flag("nodeAddr", LOOPBACK_ADDRESS, None, "Serve all routes here too, where nodes share -httpAddr's port"),
    Flag("httpsCert", PATH, None, "Serve -httpAddr over https, with this certificate chain (PEM)"),
    Flag("httpsKey", PATH, None, "Use this private key (PEM) with -httpsCert"),
    Flag(
        "publishTokens",
        PATH,
        None,
        "Ask for a token of this file to publish, update and stop streams",
        "no token is asked for",
    ),
    Flag("playTokens", PATH, None, "Ask for a token of this file to watch", "no token is asked for"),
    Flag(
        "apiTokens",
        PATH,
        None,
        "Create streams by POST /live/video-to-video for the tokens of this file",
        "streams are not created",
    ),
    Flag(
        "jwtSecret",
        SECRET,
        None,
        "Sign and check tokens of single streams with this (HS256)",
        "with -apiTokens one of its own in the data directory",
    ),
    Flag("jwtJwksUrl", URL, None, "Accept JSON Web Tokens of an issuer whose public keys are here (JWKS)"),
    Flag("jwtIssuer", TEXT, None, "Accept tokens by -jwtJwksUrl with this iss only", "any"),
    Flag("jwtAudience", TEXT, JWT_AUDIENCE, "Accept JSON Web Tokens whose aud has this"),
    Flag("liveAIAuthWebhookUrl", URL, None, "Ask this URL about each publisher before answering it"),
    Flag(
        "allowNoAuth",
        BOOLEAN,
        "false",
        "Let everybody who reaches a paid gateway publish at your expense",
    ),
    Flag("liveAIAuthApiKey", TEXT, None, "Send this to the auth webhook as x-api-key and Authorization"),
    Flag(
        "liveAIHeartbeatURL", URL, None, "Send the ids of live streams here; end those that the answer names"
    ),
    Flag("liveAIHeartbeatInterval", HEARTBEAT_INTERVAL, "5s", "Send a heartbeat this often"),
    Flag(
        "liveAIHeartbeatHeaders",
        HEADERS,
        None,
        "Send these headers with heartbeats: name:value,name2:value2",
    ),
    Flag(
        "httpIdleTimeout",
        POSITIVE_DURATION,
        "60s",
        "Close HTTP connections on which no whole request comes for this long",
    ),
    Flag(
        "maxConnections",
        INTEGER,
        "4096",
        "Limit HTTP connections to this many, and to half of the open files; 0: only that",
    ),
    Flag(
        "maxConnectionsPerAddress",
        INTEGER,
        "256",
        "Keep at most this many HTTP connections of one address; 0: no limit",
    ),
    Flag("maxStreams", INTEGER, "256", "Take at most this many streams at once; 0: no limit"),
    Flag(
        "maxStreamsPerAddress",
        INTEGER,
        "128",
        "Take at most this many streams at once from one address; 0: no limit",
    ),
    Flag("usageMarkup", POSITIVE_NUMBER, "1", "Charge this many times what was spent, in GET /usage"),
    Flag("maxViewers", INTEGER, "2000", "Take at most this many viewers at once; 0: no limit"),
    Flag(
        "maxViewersPerStream",
        INTEGER,
        "1000",
        "Take at most this many viewers at once of one stream; 0: no limit",
    ),
    Flag(
        "maxViewersPerAddress",
        INTEGER,
        "400",
        "Take at most this many viewers at once from one address; 0: no limit",
    ),
    Flag(
        "maxRequestsPerAddress",
        INTEGER,
        "200",
        "Take at most this many requests a second from one address; 0: no limit",
    ),
)


@dataclass(frozen=True)
class Heartbeats:
    """Where heartbeats are sent, how often (seconds), and with which headers."""

    url: str
    interval: float
    headers: dict[str, str]


@dataclass(frozen=True)
class JwtSettings:
    """Which JSON Web Tokens are accepted."""

    secret: bytes | None = field(default=None, repr=False)
    jwks_url: str | None = None
    audience: str = JWT_AUDIENCE
    issuer: str | None = None

    @property
    def used(self) -> bool:
        return self.secret is not None or self.jwks_url is not None


@dataclass(frozen=True)
class HttpSettings:
    """Addresses, access, limits and webhooks. Durations are seconds."""

    http_addr: tuple[str, int]
    external_url: str | None
    cors_origins: tuple[str, ...]
    """Origins whose pages may use the gateway; ANY for all."""
    allowed_hosts: tuple[str, ...]
    frame_ancestors: tuple[str, ...]
    trusted_proxies: tuple[IpNetwork, ...]
    cli_addr: tuple[str, int] | None
    """None: `http_addr` serves the operator's routes, too."""
    node_addr: tuple[str, int] | None
    """On loopback, for all routes: no other node is there."""
    tls: tuple[Path, Path] | None
    """Certificate chain and private key; None: plain http."""
    publish_tokens: Path | None
    play_tokens: Path | None
    api_tokens: Path | None
    """Who may create streams."""
    jwt: JwtSettings
    auth_webhook: str | None
    auth_api_key: str | None
    heartbeat: Heartbeats | None
    limits: ClientLimits
    connections: ConnectionLimits
    usage_markup: Fraction
    """What is charged for each wei that was spent."""

    @property
    def reached_from_outside(self) -> bool:
        """Whether other machines can send requests: directly, or through a proxy."""
        return self.behind_proxy or not is_loopback(self.http_addr[0])

    @property
    def behind_proxy(self) -> bool:
        """Whether a flag says that a proxy passes on requests of other machines."""
        return self.external_url is not None or bool(self.trusted_proxies)

    @property
    def publishing_is_guarded(self) -> bool:
        """Whether somebody decides who may publish."""
        own = self.publish_tokens is not None or self.auth_webhook is not None
        return own or self.api_tokens is not None or self.jwt.used

    @classmethod
    def from_parsed(cls, parsed: Parsed) -> HttpSettings:
        """Raises FlagError."""
        return cls(
            http_addr=parsed["httpAddr"],
            external_url=parsed["externalUrl"],
            cors_origins=_cors_origins(parsed),
            allowed_hosts=parsed["allowedHosts"] or (),
            frame_ancestors=parsed["frameAncestors"] or (),
            trusted_proxies=parsed["trustedProxies"] or (),
            cli_addr=_cli_addr(parsed),
            node_addr=parsed["nodeAddr"],
            tls=_tls(parsed),
            publish_tokens=_tokens(parsed, "publishTokens"),
            play_tokens=_tokens(parsed, "playTokens"),
            api_tokens=_tokens(parsed, "apiTokens"),
            jwt=_jwt(parsed),
            auth_webhook=parsed["liveAIAuthWebhookUrl"],
            auth_api_key=parsed["liveAIAuthApiKey"],
            heartbeat=_heartbeat(parsed),
            limits=ClientLimits(
                streams=parsed["maxStreams"],
                streams_per_address=parsed["maxStreamsPerAddress"],
                viewers=parsed["maxViewers"],
                viewers_per_stream=parsed["maxViewersPerStream"],
                viewers_per_address=parsed["maxViewersPerAddress"],
                requests_per_address=parsed["maxRequestsPerAddress"],
            ),
            connections=ConnectionLimits(
                total=parsed["maxConnections"],
                per_address=parsed["maxConnectionsPerAddress"],
                idle_timeout=parsed["httpIdleTimeout"],
            ),
            usage_markup=parsed["usageMarkup"],
        )


def _cors_origins(parsed: Parsed) -> tuple[str, ...]:
    if parsed["corsOrigins"] is not None:
        return tuple(parsed["corsOrigins"])
    guards = ("publishTokens", "liveAIAuthWebhookUrl", "apiTokens", "jwtSecret", "jwtJwksUrl")
    guarded = any(parsed[name] for name in guards)
    return (ANY,) if guarded or not parsed["remoteSignerUrl"] else ()


def _tls(parsed: Parsed) -> tuple[Path, Path] | None:
    certificate, key = parsed["httpsCert"], parsed["httpsKey"]
    if (certificate is None) != (key is None):
        given, missing = ("httpsKey", "httpsCert") if certificate is None else ("httpsCert", "httpsKey")
        raise FlagError(f"-{given} needs -{missing}")
    if certificate is None:
        return None
    for name in ("httpsCert", "httpsKey"):
        if not parsed[name].is_file():
            raise FlagError(f"-{name} {parsed[name]} is refused: there is no such file, it takes a PEM file")
    return certificate, key


def _tokens(parsed: Parsed, name: str) -> Path | None:
    path: Path | None = parsed[name]
    if path is not None:
        try:
            TokenFile(path).check()
        except (OSError, ValueError) as error:
            raise FlagError(f"-{name} {path} is refused ({error}): it takes a file of tokens") from error
    return path


def _jwt(parsed: Parsed) -> JwtSettings:
    if parsed["apiTokens"] is not None and parsed["cluster"] and parsed["jwtSecret"] is None:
        raise FlagError("-apiTokens in a cluster needs -jwtSecret, the same at all nodes")
    if parsed["jwtIssuer"] is not None and parsed["jwtJwksUrl"] is None:
        raise FlagError("-jwtIssuer needs -jwtJwksUrl")
    names = ("jwtSecret", "jwtJwksUrl", "jwtAudience", "jwtIssuer")
    return JwtSettings(*(parsed[name] for name in names))


def _heartbeat(parsed: Parsed) -> Heartbeats | None:
    url, interval = parsed["liveAIHeartbeatURL"], parsed["liveAIHeartbeatInterval"]
    return None if url is None else Heartbeats(url, interval, parsed["liveAIHeartbeatHeaders"] or {})


def _cli_addr(parsed: Parsed) -> tuple[str, int] | None:
    """None where -httpAddr has the operator's routes, too: it is asked to, or no other machine reaches it."""
    given: tuple[str, int] | None = parsed["cliAddr"]
    if given is not None:
        return given if given != parsed["httpAddr"] else None
    behind_proxy = parsed["externalUrl"] is not None or bool(parsed["trustedProxies"])
    alone = is_loopback(parsed["httpAddr"][0]) and not behind_proxy
    return None if alone else ("127.0.0.1", LOOPBACK_CLI_PORT)


def is_loopback(host: str) -> bool:
    """Whether a server on this host can be reached from this machine only."""
    return host in {"localhost", "::1"} or host.startswith("127.")
