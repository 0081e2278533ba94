"""The devnet's flags and the settings made from them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from gateway.devnet.ai_models import AiModel, read_ai_models
from gateway.flags import (
    BOOLEAN,
    DURATION,
    INTEGER,
    NUMBER,
    PATH,
    POSITIVE_DURATION,
    POSITIVE_INTEGER,
    POSITIVE_NUMBER,
    Flag,
    FlagError,
    Kind,
    Parsed,
    choice,
    within,
)
from gateway.money import wei_per_pixel
from gateway.payments.ceiling import parse_amount

RELEASES = {"0.9": "0.9.1", "0.8": "0.8.10"}
"""go-livepeer's releases that an orchestrator can behave like."""

HOSTILE = ("none", "no_room", "no_picture", "drip", "bait", "large_tickets", "moving_address")
"""What an orchestrator may do with those who pay it, as `orchestrator/conduct.py` has it."""

DIALECTS = ("go", "node")
"""Whose rules orchestrators of live runners, and with them alone the signer, follow."""

APP_STARTS = ("http", "messages")
"""How the sessions of apps on live runners are started."""

EFFECTS = ("negative", "mirror", "grey", "none", "blur")

SHORTEST_TOKEN_LIFE = 180.0
"""Seconds: a signer asks for a new auth token in the last three minutes of a token's life."""

MAX_ORCHESTRATORS = 32
MAX_COMFYSTREAMS = 16
MAX_GATEWAYS = 16

DEFAULT_AI_MODELS = "config/aiModels.json"
_INSTALLED_FROM = Path(__file__).resolve().parents[2]


def _parse_prices(value: str) -> tuple[Fraction, ...]:
    prices = tuple(parse_price(part.strip()) for part in value.split(","))
    if len(prices) > MAX_ORCHESTRATORS:
        raise ValueError(f"there are at most {MAX_ORCHESTRATORS} orchestrators")
    return prices


def _parse_hostile(value: str) -> tuple[str, ...]:
    kinds = tuple(part.strip() for part in value.split(","))
    if not set(kinds) <= set(HOSTILE):
        raise ValueError(value)
    return kinds


def parse_price(value: str) -> Fraction:
    """Wei per second as `1000000000000000` or `n/d`. Raises ValueError where it fits no `PriceInfo`."""
    numerator, _, denominator = value.partition("/")
    if not numerator.isdecimal() or not (denominator or "1").isdecimal() or int(denominator or 1) == 0:
        raise ValueError(value)
    price = Fraction(int(numerator), int(denominator or 1))
    if max(wei_per_pixel(price).as_integer_ratio()) >= 1 << 63:
        raise ValueError("its fraction of wei per pixel does not fit into 64 bits")
    return price


PRICE = Kind("wei", "a whole number of wei per second or a fraction n/d", parse_price)
PRICES = Kind("wei,..", "whole numbers of wei per second or fractions n/d, comma-separated", _parse_prices)
HOSTILE_KINDS = Kind("kind,..", f"of {', '.join(HOSTILE)}, comma-separated", _parse_hostile)
EFFECT = choice(*EFFECTS)
RELEASE = choice(*RELEASES)
TOKEN_LIFE = within(
    DURATION,
    "more than 3m, because a signer wants a new token in the last 3 minutes of the old one",
    lambda seconds: seconds > SHORTEST_TOKEN_LIFE,
)
ORCHESTRATORS = within(INTEGER, f"0 to {MAX_ORCHESTRATORS}", lambda count: 0 <= count <= MAX_ORCHESTRATORS)
COMFYSTREAMS = within(INTEGER, f"0 to {MAX_COMFYSTREAMS}", lambda count: count <= MAX_COMFYSTREAMS)
GATEWAYS = within(INTEGER, f"1 to {MAX_GATEWAYS}", lambda count: 1 <= count <= MAX_GATEWAYS)
AMOUNT = Kind("amount", "a whole number of wei, or a decimal with a unit such as 0.05ETH", parse_amount)

DEVNET_FLAGS: tuple[Flag, ...] = (
    Flag(
        "gateways",
        GATEWAYS,
        "1",
        "Start this many gateways on one port, with a NATS and a PostgreSQL of theirs",
    ),
    Flag("orchestrators", ORCHESTRATORS, "2", "Start this many orchestrators, each a process of its own"),
    Flag("runners", ORCHESTRATORS, "0", "Start this many orchestrators of live runners, each with an app"),
    Flag("dialect", choice(*DIALECTS), "go", "Have them speak as go-livepeer or livepeer/node does"),
    Flag("runnerUnit", choice("hour", "720p"), "hour", "Have apps priced by the hour, or by 720p pixels"),
    Flag(
        "appStart", choice(*APP_STARTS), "http", "Have apps started by HTTP as echo, or by messages as Scope"
    ),
    Flag("appWarmUp", DURATION, "0s", "Let an app's session warm up for this long before it starts"),
    Flag("appText", BOOLEAN, "false", "Give an app's sessions a channel of texts"),
    Flag(
        "aiModels",
        PATH,
        DEFAULT_AI_MODELS,
        "Read the orchestrators' pipeline, models and prices from this file",
    ),
    Flag(
        "prices",
        PRICES,
        None,
        "Set the orchestrators' prices of the first model, wei a second; the last repeats",
        "-aiModels' price for the first, twice that for the others",
    ),
    Flag(
        "ticketSeconds",
        POSITIVE_NUMBER,
        "1",
        "Set a ticket's expected value, in seconds at the orchestrator's own price",
    ),
    Flag("debitInterval", POSITIVE_DURATION, "1s", "Have the orchestrators debit this often"),
    Flag("debitRate", NUMBER, "1.0", "Have the orchestrators debit this many times the agreed price"),
    Flag("capacity", INTEGER, "64", "Let each orchestrator take this many streams of each model"),
    Flag(
        "preload",
        POSITIVE_DURATION,
        "60s",
        "Have the signer bill this much stream time at the start of a session",
    ),
    Flag("blockTime", POSITIVE_DURATION, "12s", "Set the time between blocks; ticket params live 40 blocks"),
    Flag("tokenLife", TOKEN_LIFE, "30m", "Let auth tokens live this long; more than 3m"),
    Flag("effect", EFFECT, "negative", "Change the picture like this; none returns it without decoding"),
    Flag("comfyStream", COMFYSTREAMS, "0", "Start this many ComfyStream servers, each a process of its own"),
    Flag("comfyStreamWarmUp", DURATION, "0s", "Let a ComfyStream server's workflow warm up for this long"),
    Flag("release", RELEASE, "0.9", "Behave like this go-livepeer; 0.8 has no /refresh-payment"),
    Flag(
        "autoAdjustPrice",
        BOOLEAN,
        "false",
        "Add the cost of redeeming tickets, 1 percent, to advertised prices",
    ),
    Flag("hotCold", BOOLEAN, "false", "Pay each orchestrator at another address than it signs with"),
    Flag("hostile", HOSTILE_KINDS, None, "Have the first orchestrators cheat in these ways, one each"),
    Flag("chain", BOOLEAN, "false", "Start a chain on which orchestrators register and redeem tickets"),
    Flag("deposit", AMOUNT, "1000ETH", "Set the signer's deposit on -chain"),
    Flag("reserve", AMOUNT, "100ETH", "Set the signer's reserve on -chain"),
    Flag("unlockPeriod", INTEGER, "7", "Unlock the signer's funds on -chain after this many rounds"),
    Flag(
        "faceValueMultiple",
        POSITIVE_INTEGER,
        "100",
        "Let one ticket in this many win, and pay this many times its expected value",
    ),
    Flag("restart", BOOLEAN, "false", "Start a process of the devnet again after it died"),
)


@dataclass(frozen=True)
class DevnetSettings:
    """The devnet's checked settings. Durations are seconds, prices wei per second."""

    gateways: int
    """Nodes of a cluster, where there are more than one."""
    orchestrators: int
    ai_models: Path
    models: tuple[AiModel, ...]
    """Those in the file; `-prices` are for the first."""
    prices: tuple[Fraction, ...]
    """One for each orchestrator."""
    runners: int
    dialect: str
    runner_prices: tuple[Fraction, ...]
    """One for each orchestrator of live runners."""
    runner_unit: str
    app_start: str
    app_warm_up: float
    app_text: bool
    ticket_seconds: Fraction
    debit_interval: float
    debit_rate: Fraction
    capacity: int
    preload: float
    block_time: float
    token_life: float
    effect: str
    release: str
    auto_adjust_price: bool
    hot_cold: bool
    hostile: tuple[str, ...]
    """One for each orchestrator, `none` for an honest one."""
    hostile_runners: tuple[str, ...]
    """The same for each orchestrator of live runners."""
    comfystreams: int
    comfystream_warm_up: float
    chain: bool
    deposit: int
    reserve: int
    unlock_period: int
    face_value_multiple: int
    restart: bool

    @property
    def list_prices(self) -> dict[str, Fraction]:
        """The price of each model in aiModels.json: a gateway's ceilings unless it has some of its own."""
        return {model.model_id: model.price for model in self.models}

    @property
    def signer_dialect(self) -> str:
        """A node's signer refuses what orchestrators of jobs need."""
        return "go" if self.orchestrators else self.dialect

    @classmethod
    def from_parsed(cls, parsed: Parsed) -> DevnetSettings:
        """Check the flags against each other. Raises FlagError with a sentence for what does not fit."""
        count: int = parsed["orchestrators"]
        runners: int = parsed["runners"]
        if not count + runners:
            raise FlagError(
                f"-orchestrators 0 is refused without -runners: it takes 1 to {MAX_ORCHESTRATORS}"
            )
        models = ai_models(parsed["aiModels"])
        given: tuple[Fraction, ...] | None = parsed["prices"]
        default = (models[0].price, 2 * models[0].price)
        # what is named goes on from the orchestrators of jobs to those of live runners, as prices do
        hostile = _hostile(parsed["hostile"] or (), count + runners)
        return cls(
            gateways=parsed["gateways"],
            orchestrators=count,
            ai_models=find_ai_models(parsed["aiModels"]),
            models=models,
            prices=_prices(given or default, count),
            runners=runners,
            dialect=parsed["dialect"],
            runner_prices=_prices(given, count + runners)[count:] if given else _prices(default, runners),
            runner_unit=_runner_unit(parsed),
            app_start=parsed["appStart"],
            app_warm_up=parsed["appWarmUp"],
            app_text=parsed["appText"],
            ticket_seconds=parsed["ticketSeconds"],
            debit_interval=parsed["debitInterval"],
            debit_rate=parsed["debitRate"],
            capacity=parsed["capacity"],
            preload=parsed["preload"],
            block_time=parsed["blockTime"],
            token_life=parsed["tokenLife"],
            effect=parsed["effect"],
            release=parsed["release"],
            auto_adjust_price=parsed["autoAdjustPrice"],
            hot_cold=parsed["hotCold"],
            hostile=hostile[:count],
            hostile_runners=hostile[count:],
            comfystreams=parsed["comfyStream"],
            comfystream_warm_up=parsed["comfyStreamWarmUp"],
            chain=parsed["chain"],
            deposit=parsed["deposit"],
            reserve=parsed["reserve"],
            unlock_period=parsed["unlockPeriod"],
            face_value_multiple=parsed["faceValueMultiple"],
            restart=parsed["restart"],
        )


def ai_models(path: Path) -> tuple[AiModel, ...]:
    """The entries for live video in the file of `-aiModels`. Raises FlagError."""
    found = find_ai_models(path)
    try:
        return read_ai_models(found)
    except ValueError as error:
        raise FlagError(
            f"-aiModels {found} is refused ({error}): it takes a file such as {DEFAULT_AI_MODELS}"
        ) from error


def find_ai_models(path: Path) -> Path:
    """`path` where it exists, else the same path in the checkout that this package runs from."""
    if path.is_absolute() or path.exists():
        return path
    beside = _INSTALLED_FROM / path
    return beside if beside.exists() else path


def _prices(given: tuple[Fraction, ...], count: int) -> tuple[Fraction, ...]:
    return (*given, *(given[-1:] * count))[:count]


def _runner_unit(parsed: Parsed) -> str:
    unit: str = parsed["runnerUnit"]
    if unit == "720p" and parsed["dialect"] == "node":
        raise FlagError(
            "-runnerUnit 720p is refused with -dialect node: a node's apps are priced by the hour"
        )
    return unit


def _hostile(given: tuple[str, ...], count: int) -> tuple[str, ...]:
    if len(given) > count:
        raise FlagError(f"-hostile names {len(given)} orchestrators: there are {count} -orchestrators")
    return (*given, *["none"] * (count - len(given)))
