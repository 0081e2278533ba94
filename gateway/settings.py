"""Every flag of the daemon in one table, and the settings that come out of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import platformdirs

from gateway.chain.settings import CHAIN_FLAGS, ChainSettings
from gateway.comfystream.errors import BadParams
from gateway.comfystream.prompts import Template
from gateway.devnet.settings import DEVNET_FLAGS, DevnetSettings
from gateway.flags import (
    ADDRESS,
    BOOLEAN,
    DURATION,
    INTEGER,
    LIST,
    PATH,
    TEXT,
    URL,
    Flag,
    FlagError,
    Kind,
    Parsed,
    choice,
    parse_flags,
)
from gateway.http.forwarding import Network, parse_networks
from gateway.http.limits import Limits
from gateway.http.tokens import TokenFile
from gateway.payments.capability_prices import ceiling_for, parse_capability_prices
from gateway.payments.ceiling import MaxPrice, parse_amount
from gateway.payments.spending import SpendLimits, StreamLimits
from gateway.webrtc.ice_settings import ICE_FLAGS, IceSettings
from signer_client.client import parse_headers

PROGRAM = "livepeer-gateway"
SHORTEST_PAYMENT_INTERVAL = 0.1
LONGEST_PAYMENT_INTERVAL = 30.0
SHORTEST_HEARTBEAT = 0.1
LOOPBACK_CLI_PORT = 5935
DEFAULT_OUTPUT_TIMEOUT = 30.0

PRICE = Kind(
    "price",
    "an integer of wei per second, or a decimal with a unit such as 0.001ETH, 1000000gwei or 3.6ETH/h",
    MaxPrice.parse,
)

NETWORKS = Kind("networks", "addresses or networks such as 10.0.0.0/8, comma-separated", parse_networks)
HEADERS = Kind("headers", "name:value,name2:value2", parse_headers, secret=True)

CAPABILITY_PRICES = Kind(
    "json|path",
    'JSON such as {"capabilities_prices": [{"pipeline": .., "model_id": .., "price_per_unit": ..}]}, or a '
    "file of it",
    parse_capability_prices,
)
AMOUNT = Kind(
    "amount", "a whole number of wei, or a decimal with a unit such as 0.05ETH or 1000gwei", parse_amount
)


def _parse_urls(value: str) -> tuple[str, ...]:
    urls = (one if "://" in one else f"http://{one}" for one in LIST.parse(value))
    return tuple(URL.parse(url) for url in urls)


URLS = Kind("url,..", "http or https URLs, comma-separated", _parse_urls)

GATEWAY_FLAGS: tuple[Flag, ...] = (
    Flag("config", PATH, None, "a file of flags, one 'name value' a line"),
    Flag("httpAddr", ADDRESS, "127.0.0.1:9935", "where WHIP, WHEP, the stream API and the page are served"),
    Flag(
        "externalUrl",
        URL,
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
    Flag("liveAIHeartbeatInterval", DURATION, "5s", "time between heartbeats"),
    Flag("liveAIHeartbeatHeaders", HEADERS, None, "headers for heartbeats: name:value,name2:value2"),
    Flag(
        "maxStreams", INTEGER, "256", "streams at once; 0 lifts this limit, as it does each of the next five"
    ),
    Flag("maxStreamsPerAddress", INTEGER, "128", "streams that one address may publish at once"),
    Flag("maxViewers", INTEGER, "2000", "viewers at once"),
    Flag("maxViewersPerStream", INTEGER, "1000", "viewers of one stream at once"),
    Flag("maxViewersPerAddress", INTEGER, "400", "viewers from one address at once"),
    Flag("maxRequestsPerAddress", INTEGER, "200", "requests a second from one address"),
    Flag("remoteSignerUrl", URL, None, "the remote signer; with it the network is a paid one"),
    Flag("remoteSignerHeaders", HEADERS, None, "headers for requests to the signer: name:value,name2:value2"),
    Flag("orchAddr", LIST, None, "orchestrators, comma-separated host:port or URLs"),
    *CHAIN_FLAGS,
    Flag(
        "orchWebhookUrl",
        URL,
        None,
        "a GET that lists orchestrators, used beside -orchAddr; with neither, the signer is asked",
    ),
    Flag("discoveryInterval", DURATION, "1m", "how often webhook or signer are asked who there is"),
    Flag(
        "comfyStreamUrl",
        URLS,
        None,
        "ComfyStream servers of one's own, comma-separated, one stream each: used instead of the network",
    ),
    Flag(
        "comfyWorkflow", PATH, None, "a ComfyUI workflow in API form whose text node takes a prompt's words"
    ),
    Flag(
        "comfyStreamFallback",
        choice("none", "network", "comfystream"),
        "none",
        "who takes a stream that the other has no room for: network uses the own servers first, comfystream "
        "the network",
    ),
    Flag("orchVerifyTLS", BOOLEAN, "false", "refuse orchestrators whose TLS certificate does not verify"),
    Flag(
        "maxPricePerUnit",
        PRICE,
        None,
        "the most to pay: wei per second, or a decimal with a unit, per hour with /h",
        "required on a paid network",
    ),
    Flag(
        "pixelsPerUnit",
        INTEGER,
        None,
        "reads a bare -maxPricePerUnit as go-livepeer does: wei per so many pixels",
    ),
    Flag(
        "maxPricePerCapability",
        CAPABILITY_PRICES,
        None,
        "a ceiling of its own for a pipeline's model: go-livepeer's JSON, or a file of it",
    ),
    Flag("maxSessionSpend", AMOUNT, None, "the most that one stream may cost, over all its jobs"),
    Flag("maxSpendPerHour", AMOUNT, None, "the most that all streams may cost within an hour"),
    Flag("maxSpendPerDay", AMOUNT, None, "the most that all streams may cost within a day"),
    Flag("maxStreamSeconds", INTEGER, None, "how long a stream may last"),
    Flag("livePaymentInterval", DURATION, "5s", "time between payments, 100ms to 30s"),
    Flag("model", TEXT, "comfystream", "the model asked for where a publisher names no pipeline"),
    Flag("ingestTimeout", DURATION, "5s", "a stream without media for so long ends"),
    Flag("connectTimeout", DURATION, "10s", "a peer whose ICE and DTLS are not done in so long is given up"),
    *ICE_FLAGS,
    Flag("maxSwaps", INTEGER, "3", "jobs of a stream that may be replaced within 3 minutes"),
    Flag(
        "liveOutSegmentTimeout",
        DURATION,
        "30s",
        "a job that sends no picture back for so long, while the publisher sends, is replaced; 0 means 30s",
    ),
    Flag("drainTimeout", DURATION, "30s", "how long live streams go on after SIGTERM, at most"),
    Flag(
        "ledger",
        TEXT,
        None,
        "where payments are written down: a path, or postgresql://user@host/database",
        "ledger.sqlite3 in the data directory",
    ),
    Flag(
        "dataDir",
        PATH,
        None,
        "all that the daemon writes",
        "a per-user data directory; under -devnet a temporary one",
    ),
    Flag("devnet", BOOLEAN, "false", "start a small Livepeer network beside the gateway and use it"),
    Flag("version", BOOLEAN, "false", "print name and version, and exit"),
    Flag("v", INTEGER, "3", "log level in go-livepeer's numbers: 0 errors, 3 what happens, 6 everything"),
    Flag("logFormat", choice("text", "json"), "text", "how log lines are written"),
)


@dataclass(frozen=True)
class Heartbeats:
    """Where heartbeats go, how often (seconds), with which headers."""

    url: str
    interval: float
    headers: dict[str, str]


@dataclass(frozen=True)
class Settings:
    """What the operator wants, checked. Durations are seconds, prices wei per second."""

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
    signer_url: str | None
    signer_headers: dict[str, str]
    orchestrators: tuple[str, ...]
    chain: ChainSettings | None
    orchestrator_webhook: str | None
    discovery_interval: float
    comfystreams: tuple[str, ...]
    """URLs of ComfyStream servers."""
    comfystream_first: bool
    """Whether they are used before the network."""
    comfystream_fallback: bool
    """Whether the other one is used where the first choice cannot be."""
    comfy_workflow: Template | None
    min_deposit_hours: Fraction
    verify_tls: bool
    ceiling: Fraction | None
    """None: free of charge, or (under devnet) the devnet's list price once it is known."""
    spend_limits: SpendLimits
    stream_limits: StreamLimits
    payment_interval: float
    model: str
    ingest_timeout: float
    connect_timeout: float
    ice: IceSettings
    max_swaps: int
    output_timeout: float
    drain_timeout: float
    ledger: str
    data_dir: Path
    data_dir_is_temporary: bool
    devnet: DevnetSettings | None
    log_level: int
    log_format: str
    warnings: tuple[str, ...]

    def remove_temporary_data(self) -> None:
        if self.data_dir_is_temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)


def wants_version(parsed: Parsed) -> bool:
    return bool(parsed["version"])


def read_flags(argv: Sequence[str], environ: Mapping[str, str]) -> Parsed:
    """Read the daemon's flags and, as it takes them too, the devnet's."""
    return parse_flags((*GATEWAY_FLAGS, *DEVNET_FLAGS), argv, environ, program=PROGRAM)


def settings_from(parsed: Parsed) -> Settings:
    """Check the flags against each other. Raises FlagError with a sentence for what does not fit."""
    interval = parsed["livePaymentInterval"]
    if not SHORTEST_PAYMENT_INTERVAL <= interval <= LONGEST_PAYMENT_INTERVAL:
        raise FlagError(f"-livePaymentInterval {interval:g}s is refused: it takes 100ms to 30s")
    for name in ("ingestTimeout", "connectTimeout", "discoveryInterval"):
        if parsed[name] <= 0:
            raise FlagError(f"-{name} 0s is refused: it takes a duration above 0")
    _check_devnet(parsed)
    paid = bool(parsed["remoteSignerUrl"] or parsed["devnet"])
    ceiling, warnings = _ceiling(parsed, paid)
    chain = ChainSettings.from_parsed(parsed)
    _check_anybody(parsed, chain)
    if "minDepositHours" in parsed.given and chain is None and not parsed["chain"]:
        raise FlagError("-minDepositHours needs -ethUrl beside it, or a -devnet with -chain")
    temporary = bool(parsed["devnet"]) and parsed["dataDir"] is None
    data_dir = _data_dir(parsed["dataDir"], temporary)
    return Settings(
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
        signer_url=parsed["remoteSignerUrl"],
        signer_headers=parsed["remoteSignerHeaders"] or {},
        orchestrators=parsed["orchAddr"] or (),
        chain=chain,
        orchestrator_webhook=parsed["orchWebhookUrl"],
        discovery_interval=parsed["discoveryInterval"],
        comfystreams=parsed["comfyStreamUrl"] or (),
        comfystream_first=_comfystream_first(parsed),
        comfystream_fallback=parsed["comfyStreamFallback"] != "none",
        comfy_workflow=_comfy_workflow(parsed["comfyWorkflow"]),
        min_deposit_hours=parsed["minDepositHours"],
        verify_tls=parsed["orchVerifyTLS"],
        ceiling=ceiling,
        spend_limits=SpendLimits(hour=parsed["maxSpendPerHour"], day=parsed["maxSpendPerDay"]),
        stream_limits=StreamLimits(wei=parsed["maxSessionSpend"], seconds=parsed["maxStreamSeconds"]),
        payment_interval=interval,
        model=parsed["model"],
        ingest_timeout=parsed["ingestTimeout"],
        connect_timeout=parsed["connectTimeout"],
        ice=IceSettings.from_parsed(parsed),
        max_swaps=parsed["maxSwaps"],
        output_timeout=parsed["liveOutSegmentTimeout"] or DEFAULT_OUTPUT_TIMEOUT,
        drain_timeout=parsed["drainTimeout"],
        ledger=parsed["ledger"] or str(data_dir / "ledger.sqlite3"),
        data_dir=data_dir,
        data_dir_is_temporary=temporary,
        devnet=DevnetSettings.from_parsed(parsed) if parsed["devnet"] else None,
        log_level=parsed["v"],
        log_format=parsed["logFormat"],
        warnings=warnings,
    )


def _check_anybody(parsed: Parsed, chain: ChainSettings | None) -> None:
    """Whether there is anybody to give a stream to, and anybody to fall back to. Raises FlagError."""
    named = any(parsed[name] for name in ("orchAddr", "orchWebhookUrl", "remoteSignerUrl", "devnet"))
    network = named or chain is not None
    own = bool(parsed["comfyStreamUrl"] or (parsed["devnet"] and parsed["comfyStream"]))
    if not network and not own:
        raise FlagError(
            "no orchestrator to use: -orchAddr takes host:port or URLs, comma-separated, -orchWebhookUrl a "
            "list of them, -remoteSignerUrl a signer that knows some; -ethUrl finds them on chain; "
            "-comfyStreamUrl takes servers of your own; or try -devnet, which brings its own"
        )
    fallback = parsed["comfyStreamFallback"]
    if fallback != "none" and not own:
        raise FlagError(f"-comfyStreamFallback {fallback} needs -comfyStreamUrl beside it")
    if fallback != "none" and not network:
        raise FlagError(f"-comfyStreamFallback {fallback} needs a network beside it: -orchAddr")


def _comfystream_first(parsed: Parsed) -> bool:
    """Whether streams that ask for nothing go to the own servers first."""
    fallback = parsed["comfyStreamFallback"]
    return bool(fallback == "network" if fallback != "none" else parsed["comfyStreamUrl"])


def _comfy_workflow(path: Path | None) -> Template | None:
    if path is None:
        return None
    try:
        return Template.read(path)
    except BadParams as error:
        raise FlagError(
            f"-comfyWorkflow {path} is refused ({error}): it takes a ComfyUI workflow in API form"
        ) from error


def _check_devnet(parsed: Parsed) -> None:
    if parsed["devnet"]:
        for name in ("orchAddr", "remoteSignerUrl"):
            if name in parsed.given:
                raise FlagError(f"-devnet brings its own network: leave out -{name}, or -devnet")
        return
    for flag in DEVNET_FLAGS:
        if flag.name in parsed.given:
            raise FlagError(f"-{flag.name} is a flag of the devnet: it takes -devnet beside it")


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
    interval = parsed["liveAIHeartbeatInterval"]
    if interval < SHORTEST_HEARTBEAT:
        raise FlagError(f"-liveAIHeartbeatInterval {interval:g}s is refused: it takes 100ms or more")
    url = parsed["liveAIHeartbeatURL"]
    return None if url is None else Heartbeats(url, interval, parsed["liveAIHeartbeatHeaders"] or {})


def _ceiling(parsed: Parsed, paid: bool) -> tuple[Fraction | None, tuple[str, ...]]:
    """The ceiling for the model that orchestrators are asked for, and what to warn the operator of."""
    own = ceiling_for(parsed["model"], parsed["maxPricePerCapability"] or {}, None)
    if own is not None:
        return own, ()
    return _general_ceiling(parsed, paid)


def _general_ceiling(parsed: Parsed, paid: bool) -> tuple[Fraction | None, tuple[str, ...]]:
    price: MaxPrice | None = parsed["maxPricePerUnit"]
    pixels: int | None = parsed["pixelsPerUnit"]
    if price is None:
        if pixels is not None:
            raise FlagError(f"-pixelsPerUnit {pixels} needs -maxPricePerUnit beside it")
        if paid and not parsed["devnet"]:
            raise FlagError(f"-maxPricePerUnit is required on a paid network: it takes {PRICE.accepts}")
        return None, ()
    try:
        ceiling = price.per_second(pixels)
    except ValueError as error:
        raise FlagError(f"-pixelsPerUnit {pixels} is refused: {error}") from error
    if price.is_suspiciously_low(pixels):
        return ceiling, (
            f"-maxPricePerUnit {price.amount} is read as wei per second, which is very little: if wei per "
            "pixel was meant, as go-livepeer reads it, add -pixelsPerUnit 1",
        )
    return ceiling, ()


def _cli_addr(given: tuple[str, int] | None, http_addr: tuple[str, int]) -> tuple[str, int] | None:
    if given is not None:
        return given if given != http_addr else None
    return None if is_loopback(http_addr[0]) else ("127.0.0.1", LOOPBACK_CLI_PORT)


def is_loopback(host: str) -> bool:
    """Whether a host that is listened on can be reached from this machine only."""
    return host in {"localhost", "::1"} or host.startswith("127.")


def _data_dir(given: Path | None, temporary: bool) -> Path:
    if temporary:
        return Path(tempfile.mkdtemp(prefix="livepeer-gateway-"))
    data_dir = given or Path(platformdirs.user_data_dir("livepeer-gateway"))
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FlagError(
            f"-dataDir {data_dir} cannot be made ({error.strerror}): it takes a folder to write in"
        ) from error
    return data_dir


def flag_table(flags: Sequence[Flag]) -> str:
    """The flags as the README's table."""
    rows = ["| flag | takes | default | meaning |", "| --- | --- | --- | --- |"]
    for flag in flags:
        default = flag.shown_default or flag.default or "none"
        kind = flag.kind.name.replace("|", "\\|")
        rows.append(f"| `-{flag.name}` | {kind} | {default} | {flag.help} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(flag_table(GATEWAY_FLAGS))  # noqa: T201
