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
from gateway.comfystream.settings import COMFY_FLAGS, ComfySettings
from gateway.devnet.settings import DEVNET_FLAGS, DevnetSettings
from gateway.flags import (
    BOOLEAN,
    DURATION,
    INTEGER,
    LIST,
    PATH,
    POSITIVE_DURATION,
    TEXT,
    URL,
    Flag,
    FlagError,
    Parsed,
    choice,
    parse_flags,
    unknown_variables,
)
from gateway.http.settings import FRONT_FLAGS, HEADERS, FrontSettings
from gateway.payments.settings import PAYMENT_FLAGS, PaymentSettings
from gateway.webrtc.ice_settings import ICE_FLAGS, IceSettings

PROGRAM = "livepeer-gateway"
DEFAULT_OUTPUT_TIMEOUT = 30.0

GATEWAY_FLAGS: tuple[Flag, ...] = (
    Flag("config", PATH, None, "a file of flags, one 'name value' a line"),
    *FRONT_FLAGS,
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
    Flag("discoveryInterval", POSITIVE_DURATION, "1m", "how often webhook or signer are asked who there is"),
    *COMFY_FLAGS,
    Flag("orchVerifyTLS", BOOLEAN, "false", "refuse orchestrators whose TLS certificate does not verify"),
    *PAYMENT_FLAGS,
    Flag("model", TEXT, "comfystream", "the model asked for where a publisher names no pipeline"),
    Flag("ingestTimeout", POSITIVE_DURATION, "5s", "a stream without media for so long ends"),
    Flag(
        "connectTimeout",
        POSITIVE_DURATION,
        "10s",
        "a peer whose ICE and DTLS are not done in so long is given up",
    ),
    *ICE_FLAGS,
    Flag("maxSwaps", INTEGER, "3", "jobs of a stream that may be replaced within 3 minutes"),
    Flag(
        "liveOutSegmentTimeout",
        DURATION,
        "30s",
        "a job that sends no picture back for so long, while the publisher sends, is replaced; 0 means 30s",
    ),
    Flag(
        "standby",
        BOOLEAN,
        "false",
        "every stream has a second job on another orchestrator, paid like the first, to switch to",
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
class Settings:
    """What the operator wants, checked. Durations are seconds, prices wei per second."""

    front: FrontSettings
    signer_url: str | None
    signer_headers: dict[str, str]
    orchestrators: tuple[str, ...]
    chain: ChainSettings | None
    orchestrator_webhook: str | None
    discovery_interval: float
    comfystream: ComfySettings
    min_deposit_hours: Fraction
    block_polling_interval: float
    verify_tls: bool
    payments: PaymentSettings
    model: str
    ingest_timeout: float
    connect_timeout: float
    ice: IceSettings
    max_swaps: int
    output_timeout: float
    standby: bool
    """Whether streams that say nothing of it have a second job that stands by."""
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
    flags = (*GATEWAY_FLAGS, *DEVNET_FLAGS)
    parsed = parse_flags(flags, argv, environ, program=PROGRAM)
    parsed.warnings += unknown_variables(flags, environ, program=PROGRAM)
    return parsed


def settings_from(parsed: Parsed) -> Settings:
    """Check the flags against each other. Raises FlagError with a sentence for what does not fit."""
    _check_devnet(parsed)
    paid = bool(parsed["remoteSignerUrl"] or parsed["devnet"])
    payments, warnings = PaymentSettings.from_parsed(parsed, paid=paid)
    chain = ChainSettings.from_parsed(parsed)
    _check_anybody(parsed, chain)
    for name in ("minDepositHours", "blockPollingInterval"):
        if name in parsed.given and chain is None and not parsed["chain"]:
            raise FlagError(f"-{name} needs -ethUrl beside it, or a -devnet with -chain")
    front, own = FrontSettings.from_parsed(parsed), ComfySettings.from_parsed(parsed)
    devnet = DevnetSettings.from_parsed(parsed) if parsed["devnet"] else None
    ice = IceSettings.from_parsed(parsed)
    # the last that may be refused: a refusal leaves no folder behind
    temporary = bool(parsed["devnet"]) and parsed["dataDir"] is None
    data_dir = _data_dir(parsed["dataDir"], temporary)
    return Settings(
        front=front,
        signer_url=parsed["remoteSignerUrl"],
        signer_headers=parsed["remoteSignerHeaders"] or {},
        orchestrators=parsed["orchAddr"] or (),
        chain=chain,
        orchestrator_webhook=parsed["orchWebhookUrl"],
        discovery_interval=parsed["discoveryInterval"],
        comfystream=own,
        min_deposit_hours=parsed["minDepositHours"],
        block_polling_interval=parsed["blockPollingInterval"],
        verify_tls=parsed["orchVerifyTLS"],
        payments=payments,
        model=parsed["model"],
        ingest_timeout=parsed["ingestTimeout"],
        connect_timeout=parsed["connectTimeout"],
        ice=ice,
        max_swaps=parsed["maxSwaps"],
        output_timeout=parsed["liveOutSegmentTimeout"] or DEFAULT_OUTPUT_TIMEOUT,
        standby=parsed["standby"],
        drain_timeout=parsed["drainTimeout"],
        ledger=parsed["ledger"] or str(data_dir / "ledger.sqlite3"),
        data_dir=data_dir,
        data_dir_is_temporary=temporary,
        devnet=devnet,
        log_level=parsed["v"],
        log_format=parsed["logFormat"],
        warnings=(*parsed.warnings, *warnings),
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


def _check_devnet(parsed: Parsed) -> None:
    if parsed["devnet"]:
        for name in ("orchAddr", "remoteSignerUrl"):
            if name in parsed.given:
                raise FlagError(f"-devnet brings its own network: leave out -{name}, or -devnet")
        return
    for flag in DEVNET_FLAGS:
        if flag.name in parsed.given:
            raise FlagError(f"-{flag.name} is a flag of the devnet: it takes -devnet beside it")


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
