"""What this gateway pays from: who signs, where it is written down, and what it may cost."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from fractions import Fraction

from gateway.payments.ledger import Ledger, LedgerUnavailable
from gateway.payments.settings import PaymentSettings
from gateway.payments.spending import DAY, MINUTE, Spending, SpendLimits
from signer_client import SignerClient, SignerIdentity


@dataclass(frozen=True)
class PaymentResources:
    """Shared by all payment sessions. `sender` is the signer's address (0x..).

    `ceiling` is the most to pay in wei per second, `interval` the nanoseconds between payments.
    """

    signer: SignerClient
    sender: str
    ledger: Ledger
    spending: Spending
    ceiling: Fraction
    interval: int
    turns: asyncio.Semaphore
    """One for each signing call that may be under way; those that wait go in the order in which they came."""

    @classmethod
    async def open(
        cls, settings: PaymentSettings, ledger: Ledger, signer: SignerClient, identity: SignerIdentity
    ) -> PaymentResources:
        """The resources, with the sums behind the spend limits as they were when the gateway stopped."""
        assert settings.ceiling is not None, "who pays has a ceiling"
        spending = Spending(settings.spend_limits)
        if settings.spend_limits != SpendLimits():
            a_day_ago = time.time_ns() - DAY * MINUTE
            spending.restore(await ledger.reader.signed_since(a_day_ago))
        return cls(
            signer=signer,
            sender=identity.address,
            ledger=ledger,
            spending=spending,
            ceiling=settings.ceiling,
            interval=settings.interval,
            turns=asyncio.Semaphore(settings.signing_calls),
        )

    def afford(self, first_payment: Fraction, limit: int | None = None) -> None:
        """See that a stream could be opened whose first payment costs that, in wei; `limit` is its own.

        Raises LedgerUnavailable while nothing can be written down, SpendLimitReached.
        """
        if self.ledger.trouble is not None:
            raise LedgerUnavailable(self.ledger.trouble)
        self.spending.check(first_payment, limit=limit)
