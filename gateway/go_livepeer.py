"""go-livepeer's flags and variables, for operators who come from its gateway.

What this gateway has too stands in its own tables. The rest of go-livepeer 0.9's flags is here: each is taken
with a line that says what to use instead, or why it means nothing here. Names and types are those of its
`cmd/livepeer/starter/flags.go`; the variables are those that its live AI code reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from gateway.flags import BOOLEAN, TEXT, VARIABLE_PREFIX, Flag, FlagError, Parsed


@dataclass(frozen=True)
class GoFlag:
    """A flag of go-livepeer's that this gateway does not have."""

    name: str
    why: str
    """What to use instead, or why it means nothing here: goes on from `-name value: `."""
    boolean: bool = False
    program: bool = False
    """Whether it asks for a program that this one is not; `-name=false` is taken."""


TRANSCODING = "for transcoding, which is not done here"
ORCHESTRATOR = "for orchestrators, and this is a gateway"
SIGNER = "the remote signer's: it has the key, and pays"
CHEAPEST = "orchestrators are taken by price, then by what they delivered"
ALWAYS = "GET /metrics is always served"
STORAGE = "nothing is recorded"
KAFKA = "events are not sent to a broker; see the log, the metrics and the ledger"
GO_FLAGS: tuple[GoFlag, ...] = (
    *(
        GoFlag(name, "run go-livepeer for that: this is a gateway", boolean=True, program=True)
        for name in ("orchestrator", "transcoder", "aiWorker", "redeemer", "remoteSigner", "reward")
    ),
    GoFlag("gateway", "that is what this is", boolean=True),
    GoFlag("broadcaster", "that is what this is", boolean=True),
    GoFlag("authWebhookUrl", "for RTMP: -liveAIAuthWebhookUrl is asked about publishers here"),
    GoFlag("gatewayHost", "use -externalUrl"),
    GoFlag("maxSessions", "use -maxStreams"),
    GoFlag("extraNodes", "use -orchWebhookUrl or -discoveryUrl to find more"),
    GoFlag("remoteDiscovery", "the signer's list is read where no other names orchestrators", boolean=True),
    GoFlag("discoveryTimeout", "orchestrators are asked all the time, not when a stream comes"),
    GoFlag(
        "ignoreMaxPriceIfNeeded",
        "nobody above the ceiling is ever paid: raise -maxPricePerUnit",
        boolean=True,
    ),
    *(GoFlag(name, CHEAPEST) for name in ("selectRandFreq", "selectStakeWeight", "selectPriceWeight")),
    *(
        GoFlag(name, CHEAPEST)
        for name in ("selectPriceExpFactor", "orchPerfStatsUrl", "minPerfScore", "region")
    ),
    GoFlag("aiServiceRegistry", "use -orchAddr, -orchWebhookUrl or -discoveryUrl", boolean=True),
    GoFlag("useLiveRunners", "name their apps with -app", boolean=True),
    GoFlag("mediaMTXApiPassword", "no MediaMTX is needed: publishers and viewers come to -httpAddr"),
    GoFlag("liveAITrickleHostForRunner", ORCHESTRATOR),
    GoFlag("liveAISaveNSegments", STORAGE),
    GoFlag("liveAICapRefreshModels", "GET /orchestrators shows the capacity of all"),
    GoFlag("liveAICapReportInterval", "GET /orchestrators shows the capacity of all"),
    GoFlag("depositMultiplier", "use -maxFaceValue"),
    *(GoFlag(name, SIGNER) for name in ("ethAcctAddr", "ethPassword", "ethKeystorePath", "gasLimit")),
    *(GoFlag(name, SIGNER) for name in ("transactionTimeout", "maxTransactionReplacements")),
    *(GoFlag(name, SIGNER) for name in ("minGasPrice", "maxGasPrice", "initializeRoundMaxDelay")),
    *(GoFlag(name, SIGNER) for name in ("remoteSignerWebhookUrl", "remoteSignerWebhookHeaders")),
    GoFlag("remoteSignerAllowNoAuth", SIGNER, boolean=True),
    GoFlag("initializeRound", SIGNER, boolean=True),
    *(GoFlag(name, ORCHESTRATOR) for name in ("serviceAddr", "nodes", "orchSecret", "ethOrchAddr")),
    *(GoFlag(name, ORCHESTRATOR) for name in ("ticketEV", "pricePerUnit", "pricePerGateway")),
    *(GoFlag(name, ORCHESTRATOR) for name in ("pricePerBroadcaster", "redeemerAddr", "nvidia", "netint")),
    *(GoFlag(name, ORCHESTRATOR) for name in ("aiModelsDir", "aiRunnerImage", "aiRunnerImageOverrides")),
    *(GoFlag(name, ORCHESTRATOR) for name in ("aiRunnerContainersPerGPU", "aiMinRunnerVersion")),
    *(GoFlag(name, ORCHESTRATOR) for name in ("liveRunnerConfig", "liveRunnerProxyUrl", "liveRunnerAddr")),
    *(
        GoFlag(name, ORCHESTRATOR, boolean=True)
        for name in ("aiServerless", "aiVerboseLogs", "startupAvailabilityCheck")
    ),
    GoFlag("aiProcessingRetryTimeout", "for AI jobs on files, which are not done here"),
    *(GoFlag(name, TRANSCODING) for name in ("rtmpAddr", "transcodingOptions", "maxAttempts")),
    *(GoFlag(name, TRANSCODING) for name in ("verifierUrl", "verifierPath", "FVfailGsbucket", "FVfailGskey")),
    *(
        GoFlag(name, TRANSCODING, boolean=True)
        for name in ("localVerify", "httpIngest", "currentManifest", "testTranscoder", "hevcDecoding")
    ),
    *(GoFlag(name, STORAGE) for name in ("objectStore", "recordStore")),
    *(GoFlag(name, ALWAYS, boolean=True) for name in ("monitor", "metricsPerStream", "metricsClientIP")),
    *(GoFlag(name, KAFKA) for name in ("metadataQueueUri", "metadataAmqpExchange")),
    *(GoFlag(name, KAFKA) for name in ("metadataPublishTimeout", "kafkaBootstrapServers", "kafkaUser")),
    *(GoFlag(name, KAFKA) for name in ("kafkaPassword", "kafkaGatewayTopic")),
)
ALSO_OURS = (
    *(
        "network",
        "cliAddr",
        "httpAddr",
        "orchAddr",
        "orchWebhookUrl",
        "orchBlocklist",
        "orchMinLivepeerVersion",
    ),
    *(
        "maxPricePerUnit",
        "maxPricePerCapability",
        "pixelsPerUnit",
        "maxTicketEV",
        "maxTotalEV",
        "maxFaceValue",
    ),
    *("liveAIAuthApiKey", "liveAIAuthWebhookUrl", "liveAIHeartbeatURL", "liveAIHeartbeatHeaders"),
    *("liveAIHeartbeatInterval", "livePaymentInterval", "liveOutSegmentTimeout"),
    *(
        "ethUrl",
        "ethController",
        "priceFeedAddr",
        "blockPollingInterval",
        "dataDir",
        "remoteSignerUrl",
        "remoteSignerHeaders",
    ),
)
"""go-livepeer's flags that this gateway has under the same name."""
DEVNETS = ("aiModels", "autoAdjustPrice")
"""Orchestrators' flags that the devnet has, so that they need -devnet here."""
DIFFERENCES: Mapping[str, str] = {
    "maxPricePerUnit": "wei per *second* here; required where streams are paid",
    "maxTicketEV": "no limit by default: -maxTicketSeconds limits tickets by what they are worth",
    "maxTotalEV": "of a first payment, the largest there is; no limit by default",
    "maxFaceValue": "the gateway's limit on tickets that it accepts",
    "network": "which contracts -ethUrl reads",
    "ethUrl": "only read: discovery, funds and redeemed tickets",
    "orchBlocklist": "addresses, URLs, or a file",
    "dataDir": "the ledger, and lists from the chain",
    "cliAddr": "operator routes: /metrics, /orchestrators, /usage, /debug/state",
    "liveOutSegmentTimeout": "after which a silent job is replaced",
}
"""What to know of flags that both have."""


@dataclass(frozen=True)
class GoVariable:
    """A variable of the environment that go-livepeer's live AI reads. `flag` is ours; empty where none is."""

    name: str
    flag: str
    why: str
    value: Callable[[str], str] = str
    """Its value as our flag takes it."""


def _port_of(address: str) -> str:
    return address.rpartition(":")[2]


def _url_without_path(url: str) -> str:
    return url.rstrip("/").removesuffix("/live/video-to-video")


GO_VARIABLES: tuple[GoVariable, ...] = (
    GoVariable("LIVE_AI_WHIP_ADDR", "iceUdpMuxPort", "its port is that of all media", _port_of),
    GoVariable("LIVE_AI_NAT_IP", "icePublicIP", "the public address of this machine"),
    GoVariable(
        "LIVE_AI_WHEP_MAX_SESSIONS",
        "maxViewers",
        "viewers at once",
        lambda text: "0" if text == "unlimited" else text,
    ),
    GoVariable("LIVE_AI_WHEP_URL", "externalUrl", "without its path", _url_without_path),
    GoVariable("LIVE_AI_ALLOW_CORS", "corsOrigins", "* lets the pages of all origins in", lambda _: "*"),
    GoVariable("LIVE_AI_WHEP_ADDR", "", "viewers' media goes by -iceUdpMuxPort, like publishers'"),
    GoVariable("LIVE_AI_MIN_SEG_DUR", "", "segments are at least 1 s long"),
    GoVariable("LIVE_AI_VIDEO_GATHER_TIMEOUT", "", "publishers have -ingestTimeout for their first picture"),
    GoVariable("LIVE_AI_DISABLE_TS_CORRECTION", "", "times always rise"),
    GoVariable("LIVE_AI_DISABLE_RTMP_OUTPUT", "", "nothing is sent by RTMP"),
    GoVariable("LIVE_AI_PLAYBACK_HOST", "", "nothing is sent by RTMP"),
)


def flags() -> list[Flag]:
    """Rows for the reader of flags: they take any value."""
    return [Flag(one.name, BOOLEAN if one.boolean else TEXT, None, one.why) for one in GO_FLAGS]


def warnings_of(parsed: Parsed) -> list[str]:
    """A line for each flag of go-livepeer's that was given. Raises FlagError for one of another program."""
    lines = []
    for one in GO_FLAGS:
        if one.name not in parsed.given:
            continue
        if one.program and parsed[one.name]:
            raise FlagError(f"-{one.name} is refused: {one.why}")
        lines.append(f"-{one.name} of go-livepeer has no effect here: {one.why}")
    return lines


def as_our_variables(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The environment with go-livepeer's variables as ours, and a line for each; ours go first."""
    ours, lines = dict(environ), []
    for one in GO_VARIABLES:
        value = environ.get(one.name)
        if not value:
            continue
        if not one.flag:
            lines.append(f"{one.name} of go-livepeer has no effect here: {one.why}")
            continue
        variable = VARIABLE_PREFIX + one.flag.upper()
        lines.append(f"{one.name} is deprecated: use -{one.flag}, or {variable} ({one.why})")
        if not ours.get(variable):
            ours[variable] = one.value(value)
    return ours, lines


_INTRODUCTION = """# From go-livepeer's gateway

What each flag and variable of go-livepeer 0.9 does here: the command line of its gateway works as it is.

<!-- Written by `.venv/bin/python -m gateway.settings from-go-livepeer > docs/from-go-livepeer.md`, held to
the code by a test. -->

Four things differ more than their names tell:

- **The price is per second.** `-maxPricePerUnit 1000000000000000` is a thousandth of an ETH a second. With
  `-pixelsPerUnit` it is read [as go-livepeer does](where-the-money-goes.md#the-price).
- **The signer is another process.** The gateway has no key: `-remoteSignerUrl` is a go-livepeer that runs
  with `-remoteSigner`.
- **No MediaMTX.** WHIP, WHEP and the page are on `-httpAddr`; media is UDP, or one port with
  `-iceUdpMuxPort`.
- **No `PUT smoketest`.** There the gateway sends a test picture to `stream_url`; here
  [`livepeer-gateway smoke URL`](clients.md#command-line) publishes one and checks that it comes back changed.

`livepeer-gateway doctor` with the flags [says what is missing](operations.md#before-you-start).

## Flags that both have

Flags of this gateway alone are in [flags.md](flags.md)."""


def document(ours: Iterable[Flag]) -> str:
    """The content of docs/from-go-livepeer.md, without the last line's end."""
    by_name = {flag.name: flag for flag in ours}
    same = [
        f"| `-{name}` | {by_name[name].help} | {DIFFERENCES.get(name, '')} |".replace("|  |", "| |")
        for name in sorted(ALSO_OURS, key=str.lower)
    ]
    other = [
        f"| `-{one.name}` | {_effect(one)} |" for one in sorted(GO_FLAGS, key=lambda one: one.name.lower())
    ]
    variables = [
        f"| `{one.name}` | {f'`-{one.flag}`' if one.flag else 'none'} | {one.why} |" for one in GO_VARIABLES
    ]
    return "\n".join(
        [
            f"{_INTRODUCTION}\n",
            *("| flag | here | to know |", "| --- | --- | --- |", *same, ""),
            "## Flags of go-livepeer alone\n",
            "They are taken with a line in the log, unless they ask for another program. `-aiModels` and\n"
            "`-autoAdjustPrice` are orchestrators'; here they set up the devnet's, with `-devnet`.\n",
            *("| flag | here |", "| --- | --- |", *other, ""),
            "## Variables\n",
            "Those with a flag are deprecated: they work, and the log says what to use.\n",
            *("| variable | flag here | to know |", "| --- | --- | --- |", *variables),
        ]
    )


def _effect(one: GoFlag) -> str:
    return f"refused: {one.why}" if one.program else one.why
