"""What all payments of the gateway share: signer, ledger, limits."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from fractions import Fraction

from gateway.eth_rate import DollarPrice, EthRate, PriceNow, moving, wei_now
from gateway.payments.errors import LedgerUnavailable
from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger import Ledger
from gateway.payments.payment_events import NearLimits, PaymentEvents
from gateway.payments.settings import PaymentSettings
from gateway.payments.signer_types import SignerTypes
from gateway.payments.spending import DAY, MINUTE, NOBODY, PublisherBudget, Spending
from gateway.payments.ticket_limits import DEFAULT_TICKET_LIMITS, TicketLimits
from gateway.telemetry.events import EventHub
from signer_client import SignerClient, SignerIdentity


@dataclass(frozen=True)
class PaymentResources:
    """Signer, ledger and limits of all payment sessions. `sender` is the signer's address (0x..).

    `ceiling` is the most to pay in wei per second, `interval` the nanoseconds between payments.
    """

    signer: SignerClient
    sender: str
    ledger: Ledger
    spending: Spending
    ceiling: Fraction
    interval: int
    signing_slots: asyncio.Semaphore
    """One for each call that the signer may get at once; whoever waits longest is next."""
    ticket_limits: TicketLimits = DEFAULT_TICKET_LIMITS
    types: SignerTypes = field(default_factory=SignerTypes)
    """Those of payments that the signer makes."""
    events: EventHub = field(default_factory=EventHub)
    near_limits: NearLimits | None = None
    """None: nobody is told that a limit is near."""

    def events_of(self, job: JobIdentity, budget: PublisherBudget) -> PaymentEvents:
        """Tells of the payments for a job."""
        near = self.near_limits or NearLimits(self.events, self.spending)
        return PaymentEvents(self.events, near, job, budget)

    moving: DollarPrice | None = None
    """The ceiling, where it is in dollars: `ceiling` is what it was when this was made."""

    def at(self, price: PriceNow) -> PaymentResources:
        """The same with another ceiling."""
        moving = price if isinstance(price, DollarPrice) else None
        return replace(self, ceiling=wei_now(price) or Fraction(0), moving=moving)

    def now(self) -> PaymentResources:
        """With the ceiling as it is now, for a session that begins: it keeps it."""
        return self if self.moving is None else self.at(self.moving)

    @classmethod
    async def open(
        cls,
        settings: PaymentSettings,
        ledger: Ledger,
        signer: SignerClient,
        identity: SignerIdentity,
        events: EventHub | None = None,
        rate: EthRate | None = None,
    ) -> PaymentResources:
        """The resources, with the spending of the last day, read from the ledger."""
        assert settings.ceiling is not None, "a paid network has a ceiling"
        price = moving(settings.ceiling, rate or EthRate(settings.eth_usd))
        spending = Spending(settings.spend_limits, rate=rate)
        spending.restore(await ledger.reader.signed_since(time.time_ns() - DAY * MINUTE))
        hub = events or EventHub()
        return cls(
            events=hub,
            near_limits=NearLimits(hub, spending),
            signer=signer,
            sender=identity.address,
            ledger=ledger,
            spending=spending,
            ceiling=wei_now(price) or Fraction(0),
            moving=price if isinstance(price, DollarPrice) else None,
            interval=settings.interval,
            signing_slots=asyncio.Semaphore(settings.signing_calls),
            ticket_limits=settings.ticket_limits,
        )

    def check_affordable(
        self, first_payment: Fraction, limit: int | None = None, budget: PublisherBudget = NOBODY
    ) -> None:
        """Check that a first payment of that many wei could be made.

        `limit` is the stream's own, `budget` its publisher's. Raises LedgerUnavailable, SpendLimitReached.
        """
        if self.ledger.trouble is not None:
            raise LedgerUnavailable(self.ledger.trouble)
        self.spending.check(first_payment, limit=limit, budget=budget)
