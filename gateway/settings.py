"""Gathers the flag tables of all parts, and makes the daemon's settings of what was given.

`python -m gateway.settings` prints docs/flags.md, with `from-go-livepeer` docs/from-go-livepeer.md.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs

from gateway import go_livepeer
from gateway.chain.settings import CHAIN_FLAGS, ChainSettings, WatchSettings
from gateway.cluster.settings import CLUSTER_FLAGS, ClusterSettings
from gateway.comfystream.settings import COMFY_FLAGS, ComfySettings
from gateway.devnet.settings import DEVNET_FLAGS, DevnetSettings
from gateway.events.settings import EVENT_FLAGS, EventSettings
from gateway.flag_text import flags_document
from gateway.flags import (
    BASE_URL,
    BOOLEAN,
    DURATION,
    INTEGER,
    PATH,
    TEXT,
    Flag,
    FlagError,
    Parsed,
    choice,
    parse_flags,
    unknown_variables,
)
from gateway.http.settings import HTTP_FLAGS, HttpSettings
from gateway.network.settings import NETWORK_FLAGS, NetworkSettings
from gateway.outputs.settings import OUTPUT_FLAGS, OutputSettings
from gateway.payments.figures import nanoseconds
from gateway.payments.settings import PAYMENT_FLAGS, PaymentSettings
from gateway.private_files import make_folder
from gateway.runner.settings import RUNNER_FLAGS, RunnerSettings
from gateway.stream.settings import STREAM_FLAGS, StreamSettings
from gateway.webrtc.ice_settings import ICE_FLAGS, IceSettings

PROGRAM = "livepeer-gateway"

PROGRAM_FLAGS: tuple[Flag, ...] = (
    Flag("config", PATH, None, "Read flags from this file, one 'name value' a line"),
    Flag("devnet", BOOLEAN, "false", "Start a small Livepeer network beside the gateway and use it"),
    Flag(
        "dataDir",
        PATH,
        None,
        "Write all data to this folder",
        "a per-user data directory; under -devnet a temporary one",
    ),
    Flag(
        "ledger",
        TEXT,
        None,
        "Write payments down here: a path, or postgresql://user@host/database",
        "ledger.sqlite3 in the data directory",
    ),
    Flag(
        "ledgerKeep",
        DURATION,
        "2160h",
        "Remove single payments from the ledger after this; their sums stay; 0 keeps all",
    ),
    Flag("v", INTEGER, "3", "Set the log level as go-livepeer does: 0 errors, 3 events, 6 everything"),
    Flag("logFormat", choice("text", "json"), "text", "Write log lines in this format"),
    Flag("otelEndpoint", BASE_URL, None, "Send traces to this OpenTelemetry collector, as OTLP over HTTP"),
    Flag("version", BOOLEAN, "false", "Print name and version, and exit"),
)
FLAG_GROUPS: dict[str, tuple[Flag, ...]] = {
    "Program": PROGRAM_FLAGS,
    "HTTP": HTTP_FLAGS,
    "Network": NETWORK_FLAGS,
    "Live runners": RUNNER_FLAGS,
    "Payments": PAYMENT_FLAGS,
    "Chain": CHAIN_FLAGS,
    "ComfyStream": COMFY_FLAGS,
    "Streams": STREAM_FLAGS,
    "Events": EVENT_FLAGS,
    "Outputs": OUTPUT_FLAGS,
    "Cluster": CLUSTER_FLAGS,
    "WebRTC": ICE_FLAGS,
    "Devnet": DEVNET_FLAGS,
}
ALL_FLAGS: tuple[Flag, ...] = tuple(flag for flags in FLAG_GROUPS.values() for flag in flags)
GATEWAY_FLAGS: tuple[Flag, ...] = tuple(flag for flag in ALL_FLAGS if flag not in DEVNET_FLAGS)


@dataclass(frozen=True)
class Settings:
    """What the operator wants, checked, by part."""

    http: HttpSettings
    network: NetworkSettings
    runner: RunnerSettings
    payments: PaymentSettings
    chain: ChainSettings | None
    chain_watch: WatchSettings
    """For a chain that the devnet starts, too."""
    comfystream: ComfySettings
    stream: StreamSettings
    events: EventSettings
    outputs: OutputSettings
    ice: IceSettings
    devnet: DevnetSettings | None
    cluster: ClusterSettings | None
    """None: there are no other nodes."""
    ledger: str
    """A path, or the URL of a PostgreSQL database."""
    ledger_keep: int | None
    """Nanoseconds after which single payments are removed; None keeps them all."""
    data_dir: Path
    data_dir_is_temporary: bool
    log_level: int
    log_format: str
    otel_endpoint: str | None
    warnings: tuple[str, ...]

    def remove_temporary_data(self) -> None:
        if self.data_dir_is_temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)


def wants_version(parsed: Parsed) -> bool:
    return bool(parsed["version"])


def read_flags(argv: Sequence[str], environ: Mapping[str, str], *, more: Sequence[Flag] = ()) -> Parsed:
    """Read the daemon's flags, the devnet's and go-livepeer's, which it takes too, and `more`.

    Raises FlagError or HelpRequested.
    """
    environ, of_variables = go_livepeer.as_our_variables(environ)
    known = (*ALL_FLAGS, *more)
    parsed = parse_flags((*known, *go_livepeer.flags()), argv, environ, program=PROGRAM)
    parsed.warnings += unknown_variables(known, environ, program=PROGRAM)
    parsed.warnings += [*of_variables, *go_livepeer.warnings_of(parsed)]
    return parsed


def settings_from(parsed: Parsed) -> Settings:
    """Check the flags against each other. Raises FlagError with a sentence for what does not fit."""
    _check_devnet(parsed)
    paid = bool(parsed["remoteSignerUrl"] or parsed["devnet"])
    payments, warnings = PaymentSettings.from_parsed(parsed, paid=paid)
    chain = ChainSettings.from_parsed(parsed)
    _check_sources(parsed, chain)
    _check_rate(payments, chain)
    for name in ("minDepositHours", "blockPollingInterval"):
        if name in parsed.given and chain is None and not parsed["chain"]:
            raise FlagError(f"-{name} needs -ethUrl, or a -devnet with -chain")
    http, comfystream = HttpSettings.from_parsed(parsed), ComfySettings.from_parsed(parsed)
    if parsed["remoteSignerUrl"] and http.reached_from_outside:
        warnings += _check_guards(parsed, http, payments)
    cluster = ClusterSettings.from_parsed(parsed)
    if cluster is not None and not (parsed["ledger"] or "").startswith("postgresql://"):
        raise FlagError("-cluster needs a -ledger that all nodes can write: postgresql://user@host/database")
    devnet = DevnetSettings.from_parsed(parsed) if parsed["devnet"] else None
    ice = IceSettings.from_parsed(parsed)
    runner, stream = RunnerSettings.from_parsed(parsed), StreamSettings.from_parsed(parsed)
    if runner.default_name is not None and "model" not in parsed.given:
        stream = replace(stream, models=(runner.default_name,))
    # made last: a refused flag leaves no folder behind
    temporary = bool(parsed["devnet"]) and parsed["dataDir"] is None
    data_dir = _data_dir(parsed["dataDir"], temporary)
    return Settings(
        http=http,
        network=NetworkSettings.from_parsed(parsed),
        payments=payments,
        chain=chain,
        chain_watch=WatchSettings.from_parsed(parsed),
        comfystream=comfystream,
        stream=stream,
        events=EventSettings.from_parsed(parsed),
        outputs=OutputSettings.from_parsed(parsed),
        runner=runner,
        ice=ice,
        devnet=devnet,
        cluster=cluster,
        ledger=parsed["ledger"] or str(data_dir / "ledger.sqlite3"),
        ledger_keep=nanoseconds(parsed["ledgerKeep"]) or None,
        data_dir=data_dir,
        data_dir_is_temporary=temporary,
        log_level=parsed["v"],
        log_format=parsed["logFormat"],
        otel_endpoint=parsed["otelEndpoint"],
        warnings=(*parsed.warnings, *warnings),
    )


def _check_rate(payments: PaymentSettings, chain: ChainSettings | None) -> None:
    """Raises FlagError for dollars of which nothing says what they are in ether."""
    fed = chain is not None and chain.network.price_feed is not None
    if payments.uses_usd and payments.eth_usd is None and not fed:
        raise FlagError(
            "prices and limits in USD need a rate: set -ethUsd, or -ethUrl with -priceFeedAddr or with "
            "-network arbitrum-one-mainnet"
        )


def _check_guards(parsed: Parsed, http: HttpSettings, payments: PaymentSettings) -> tuple[str, ...]:
    """What to warn of, for a paid gateway that others reach. Raises FlagError where everybody may publish."""
    if not http.publishing_is_guarded and not parsed["allowNoAuth"]:
        raise FlagError(
            "everybody who reaches this gateway could publish, and you would pay: set -publishTokens or "
            "-liveAIAuthWebhookUrl, let -httpAddr listen on loopback only, or allow it with -allowNoAuth"
        )
    if payments.limits_spending:
        return ()
    return (
        "publishers may spend without limit: set -maxPublisherSpendPerHour, -maxPublisherSpendPerDay, "
        "-maxSpendPerHour, -maxSpendPerDay or -maxSessionSpend",
    )


def _check_sources(parsed: Parsed, chain: ChainSettings | None) -> None:
    """Raises FlagError where no flag says who is to transform streams, or who to fall back to."""
    named = any(
        parsed[name] for name in ("orchAddr", "orchWebhookUrl", "discoveryUrl", "remoteSignerUrl", "devnet")
    )
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
        raise FlagError(f"-comfyStreamFallback {fallback} needs -comfyStreamUrl")
    if fallback != "none" and not network:
        raise FlagError(f"-comfyStreamFallback {fallback} needs a network: -orchAddr")


def _check_devnet(parsed: Parsed) -> None:
    if parsed["devnet"]:
        for name in ("orchAddr", "remoteSignerUrl"):
            if name in parsed.given:
                raise FlagError(f"-devnet brings its own network: leave out -{name}, or -devnet")
        return
    for flag in DEVNET_FLAGS:
        if flag.name in parsed.given:
            raise FlagError(f"-{flag.name} is a flag of the devnet: add -devnet")


def _data_dir(given: Path | None, temporary: bool) -> Path:
    if temporary:
        return Path(tempfile.mkdtemp(prefix="livepeer-gateway-"))
    data_dir = given or Path(platformdirs.user_data_dir("livepeer-gateway"))
    try:
        make_folder(data_dir)
    except OSError as error:
        raise FlagError(
            f"-dataDir {data_dir} cannot be made ({error.strerror}): it takes a folder to write in"
        ) from error
    return data_dir


if __name__ == "__main__":
    moving = sys.argv[1:] == ["from-go-livepeer"]
    print(go_livepeer.document(GATEWAY_FLAGS) if moving else flags_document(FLAG_GROUPS))  # noqa: T201
