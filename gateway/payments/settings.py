"""What an operator says about money: the ceiling, the limits, and how often it is paid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from gateway.eth_rate import Price, Usd
from gateway.flags import (
    DURATION,
    INTEGER,
    POSITIVE_INTEGER,
    POSITIVE_NUMBER,
    Flag,
    FlagError,
    Kind,
    Parsed,
    within,
)
from gateway.payments.capability_prices import ceiling_for, parse_capability_prices
from gateway.payments.ceiling import PriceCeiling, parse_amount, parse_limit
from gateway.payments.figures import nanoseconds
from gateway.payments.schedule import SHORTEST_INTERVAL
from gateway.payments.spending import SpendLimits, StreamLimits
from gateway.payments.ticket_limits import DEFAULT_TICKET_LIMITS, TicketLimits
from gateway.payments.timebase import NANOSECONDS

LONGEST_INTERVAL = 30 * NANOSECONDS

PRICE = Kind(
    "price",
    "an integer of wei per second, or a decimal with a unit: 0.001ETH, 1000000gwei, 3.6ETH/h or 0.50USD/h",
    PriceCeiling.parse,
)

CAPABILITY_PRICES = Kind(
    "json|path",
    'JSON such as {"capabilities_prices": [{"pipeline": .., "model_id": .., "price_per_unit": ..}]}, or a '
    "file of it",
    parse_capability_prices,
)
AMOUNT = Kind(
    "amount", "a whole number of wei, or a decimal with a unit such as 0.05ETH or 1000gwei", parse_amount
)
LIMIT = Kind(
    "amount", "a whole number of wei, or a decimal with a unit such as 0.05ETH, 1000gwei or 5USD", parse_limit
)
PAYMENT_INTERVAL = within(
    DURATION, "100ms to 30s", lambda seconds: SHORTEST_INTERVAL <= nanoseconds(seconds) <= LONGEST_INTERVAL
)

PAYMENT_FLAGS: tuple[Flag, ...] = (
    Flag(
        "maxPricePerUnit",
        PRICE,
        None,
        "Pay at most this: wei per second, or with a unit: 3.6ETH/h, 0.50USD/h",
        "required on a paid network",
    ),
    Flag(
        "pixelsPerUnit",
        INTEGER,
        None,
        "Read a bare -maxPricePerUnit as go-livepeer does: wei per this many pixels",
        "wei per second",
    ),
    Flag(
        "maxPricePerCapability",
        CAPABILITY_PRICES,
        None,
        "Pay at most these prices, by pipeline and model: go-livepeer's JSON, or its file",
        "-maxPricePerUnit for every model",
    ),
    Flag(
        "maxTicketSeconds",
        POSITIVE_NUMBER,
        None,
        "Refuse tickets worth more than this many seconds at the price ceiling",
        f"{DEFAULT_TICKET_LIMITS.seconds}; under -devnet at least -ticketSeconds",
    ),
    Flag("maxFaceValue", AMOUNT, None, "Refuse tickets that take more than this when they win", "no limit"),
    Flag("maxTicketEV", AMOUNT, None, "Refuse tickets that are worth more than this", "no limit"),
    Flag("maxTotalEV", AMOUNT, None, "Refuse first payments that are worth more than this", "no limit"),
    Flag("maxSessionSpend", LIMIT, None, "Spend at most this on one stream, over all its jobs", "no limit"),
    Flag("maxSpendPerHour", LIMIT, None, "Spend at most this on all streams within an hour", "no limit"),
    Flag("maxSpendPerDay", LIMIT, None, "Spend at most this on all streams within a day", "no limit"),
    Flag(
        "maxPublisherSpendPerHour",
        LIMIT,
        None,
        "Spend at most this on all streams of one publisher within an hour",
        "no limit",
    ),
    Flag(
        "maxPublisherSpendPerDay",
        LIMIT,
        None,
        "Spend at most this on all streams of one publisher within a day",
        "no limit",
    ),
    Flag(
        "maxPaidStartsPerMinute",
        INTEGER,
        "60",
        "Start at most this many paid streams of one publisher a minute; 0: no limit",
    ),
    Flag("maxStreamSeconds", INTEGER, None, "End a stream after this many seconds", "no limit"),
    Flag("livePaymentInterval", PAYMENT_INTERVAL, "5s", "Pay for each stream this often, 100ms to 30s"),
    Flag(
        "ethUsd",
        POSITIVE_NUMBER,
        None,
        "Take an ether for this many US dollars, in prices and limits in USD",
        "what -priceFeedAddr says",
    ),
    Flag("maxSigningCalls", POSITIVE_INTEGER, "64", "Send the signer at most this many calls at once"),
)


@dataclass(frozen=True)
class PaymentSettings:
    """Prices are wei per second, or in dollars."""

    ceiling: Price | None
    """None: free of charge, or (under devnet) the devnet's list price once it is known."""
    spend_limits: SpendLimits
    stream_limits: StreamLimits
    interval: int
    """Nanoseconds between payments."""
    signing_calls: int
    ticket_limits: TicketLimits = DEFAULT_TICKET_LIMITS
    capability_prices: Mapping[str, Price] = field(default_factory=dict)
    """Ceilings of single models."""
    general_ceiling: Price | None = None
    """For all models without one of their own; None where they may not be paid."""
    eth_usd: Fraction | None = None
    """Dollars for an ether, where the operator says it."""

    @property
    def uses_usd(self) -> bool:
        """Whether a price or a limit needs the rate."""
        prices = (self.ceiling, self.general_ceiling, *self.capability_prices.values())
        limits = self.stream_limits.in_usd or self.spend_limits.in_usd
        return limits or any(isinstance(price, Usd) for price in prices)

    def ceiling_of(self, model: str) -> Price | None:
        """The ceiling for this model; None where it may not be paid."""
        own = ceiling_for(model, self.capability_prices)
        return self.general_ceiling if own is None else own

    @property
    def limits_spending(self) -> bool:
        """Whether any limit on wei is set."""
        own = self.stream_limits
        amounts = (own.wei, own.publisher_hour, own.publisher_day)
        limited = self.spend_limits != SpendLimits() or own.in_usd
        return limited or any(amount is not None for amount in amounts)

    @classmethod
    def from_parsed(cls, parsed: Parsed, *, paid: bool) -> tuple[PaymentSettings, tuple[str, ...]]:
        """The settings, and what to warn the operator of. Raises FlagError for what does not fit."""
        prices: Mapping[str, Price] = parsed["maxPricePerCapability"] or {}
        default, *others = parsed["model"]
        own = ceiling_for(default, prices)
        general, warnings = _general_ceiling(parsed, paid and own is None)
        if paid and not parsed["devnet"] and general is None:
            for model in others:
                if ceiling_for(model, prices) is None:
                    raise FlagError(f"-model {model} has no price ceiling: set -maxPricePerUnit")
        chosen = cls(
            ceiling=general if own is None else own,
            capability_prices=prices,
            general_ceiling=general,
            spend_limits=SpendLimits(
                hour=_wei(parsed, "maxSpendPerHour"),
                day=_wei(parsed, "maxSpendPerDay"),
                hour_usd=_usd(parsed, "maxSpendPerHour"),
                day_usd=_usd(parsed, "maxSpendPerDay"),
            ),
            stream_limits=StreamLimits(
                wei=_wei(parsed, "maxSessionSpend"),
                seconds=parsed["maxStreamSeconds"],
                publisher_hour=_wei(parsed, "maxPublisherSpendPerHour"),
                publisher_day=_wei(parsed, "maxPublisherSpendPerDay"),
                paid_starts=parsed["maxPaidStartsPerMinute"] or None,
                usd=_usd(parsed, "maxSessionSpend"),
                publisher_hour_usd=_usd(parsed, "maxPublisherSpendPerHour"),
                publisher_day_usd=_usd(parsed, "maxPublisherSpendPerDay"),
            ),
            eth_usd=parsed["ethUsd"],
            interval=nanoseconds(parsed["livePaymentInterval"]),
            signing_calls=parsed["maxSigningCalls"],
            ticket_limits=TicketLimits(
                _ticket_seconds(parsed), parsed["maxFaceValue"], parsed["maxTicketEV"], parsed["maxTotalEV"]
            ),
        )
        return chosen, warnings


def _wei(parsed: Parsed, name: str) -> int | None:
    limit: int | Usd | None = parsed[name]
    return None if isinstance(limit, Usd) else limit


def _usd(parsed: Parsed, name: str) -> Fraction | None:
    limit: int | Usd | None = parsed[name]
    return limit.amount if isinstance(limit, Usd) else None


def _ticket_seconds(parsed: Parsed) -> Fraction:
    if parsed["maxTicketSeconds"] is not None:
        return Fraction(parsed["maxTicketSeconds"])
    usual = DEFAULT_TICKET_LIMITS.seconds
    return max(usual, parsed["ticketSeconds"]) if parsed["devnet"] else usual


def _general_ceiling(parsed: Parsed, required: bool) -> tuple[Price | None, tuple[str, ...]]:
    """The ceiling for models without one of their own, and what to warn the operator of."""
    price: PriceCeiling | None = parsed["maxPricePerUnit"]
    pixels: int | None = parsed["pixelsPerUnit"]
    if price is None:
        if pixels is not None and not parsed["maxPricePerCapability"]:
            raise FlagError(f"-pixelsPerUnit {pixels} needs -maxPricePerUnit")
        if required and not parsed["devnet"]:
            raise FlagError(f"-maxPricePerUnit is required on a paid network: it takes {PRICE.accepts}")
        return None, ()
    try:
        ceiling = price.price(pixels)
    except ValueError as error:
        raise FlagError(f"-pixelsPerUnit {pixels} is refused: {error}") from error
    if price.is_suspiciously_low(pixels):
        return ceiling, (
            f"-maxPricePerUnit {price.amount} is read as wei per second, which is very little: if wei per "
            "pixel was meant, as go-livepeer reads it, add -pixelsPerUnit 1",
        )
    return ceiling, ()
