"""First payments: whose turn it is to hand one out, and those that wait for the next start.

A first payment that was handed out and not credited can be redeemed, whatever came of the job. The next start
at that address hands out the same bytes, for whatever stream, before another is signed. Only a stream with
another identity at the signer gets one of its own: the signer knows a session by who opened it. Who has
delivered before may have several, for live runners that a former start's payment is not for.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.payments.customer import ANYBODY, Customer
from gateway.payments.payer import Payer
from gateway.reason import EndReason

REMEMBERED = 1000
"""Addresses of which it is known that they credit: more than there are to choose from."""
MAX_KEPT = 4
"""Payments that wait at one address, above which no other is signed for one of its runners."""


@dataclass(eq=False)
class _Address:
    """What is known of the starts at one address."""

    kept: list[Payer] = field(default_factory=list)
    waiting: int = 0
    under_way: int = 0
    credits: bool = False
    """Whether it credited the first payment of its last start."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def in_use(self) -> bool:
        return bool(self.kept or self.waiting or self.under_way)

    def kept_for(self, start: _Start) -> Payer | None:
        """One whose session the signer knows by the same headers, and at best one that serves the start."""
        headers = start.customer.signer_headers
        fits = [one for one in reversed(self.kept) if one.customer.signer_headers == headers]
        serving = next(filter(start.serves, fits), None)
        if serving is not None or not fits or (start.proven and len(self.kept) < MAX_KEPT):
            return serving
        return fits[0]


@dataclass(frozen=True)
class _Start:
    """What a first payment is wanted for."""

    customer: Customer
    serves: Callable[[Payer], bool]
    proven: bool


def _any(_: Payer) -> bool:
    return True


class FirstPayments:
    """All streams' first payments, by the address that is paid (0x..).

    It is remembered of at most `remembered` addresses that they credit.
    """

    def __init__(self, *, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._addresses: OrderedDict[str, _Address] = OrderedDict()
        """Those that were used last at the end."""

    def __len__(self) -> int:
        return len(self._addresses)

    async def turn(
        self,
        address: str,
        customer: Customer = ANYBODY,
        *,
        serves: Callable[[Payer], bool] = _any,
        proven: bool = False,
    ) -> Turn:
        """Wait until a first payment may be handed out there, for a stream of that customer.

        `serves` tells whether one that is kept can be this start's; where none can, who is `proven` to have
        delivered gets another. While the address credits them there is no wait. Else one start at a time
        signs a payment.
        """
        await self._close_unusable()
        self._forget()
        one = self._addresses.setdefault(address, _Address())
        self._addresses.move_to_end(address)
        one.waiting += 1
        start = _Start(customer, serves, proven)
        try:
            while one.under_way and one.kept_for(start) is None and not one.credits:
                await one.changed.wait()
        finally:
            one.waiting -= 1
        return Turn(one, start)

    def keep(self, address: str, payer: Payer) -> None:
        """The next start there hands out the first payment that a former run of the gateway signed."""
        self._addresses.setdefault(address, _Address()).kept.append(payer)

    async def close(self) -> None:
        """Leave those that are kept to the next run of the gateway; close the sessions of the others."""
        await self._close_unusable()
        kept = [payer for one in self._addresses.values() for payer in one.kept]
        await self._close([payer for payer in kept if not payer.resumable])

    async def _close_unusable(self) -> None:
        kept = [payer for one in self._addresses.values() for payer in one.kept]
        await self._close([payer for payer in kept if not payer.first_payment_usable])

    async def _close(self, payers: list[Payer]) -> None:
        for one in self._addresses.values():
            one.kept = [payer for payer in one.kept if payer not in payers]
        for payer in payers:
            await payer.close(EndReason.ORCHESTRATOR_LOST)

    def _forget(self) -> None:
        """Drop the addresses of which there is nothing to know, and the oldest of too many others."""
        idle = [address for address, one in self._addresses.items() if not one.in_use]
        silent = [address for address in idle if not self._addresses[address].credits]
        for address in {*silent, *idle[: max(0, len(idle) - self._remembered)]}:
            del self._addresses[address]


class Turn:
    """The right to hand out one first payment. `credited` ends it, or `close`, which follows anyway."""

    def __init__(self, address: _Address, start: _Start) -> None:
        self.kept = address.kept_for(start)
        """Who has a first payment for that address which was not credited: it is to be handed out again."""
        if self.kept is not None:
            address.kept.remove(self.kept)
        self._address = address
        self._is_over = False
        address.under_way += 1

    def credited(self) -> None:
        """The job started."""
        self._end(credits=True)

    async def close(self, payer: Payer | None, reason: EndReason) -> None:
        """The job is over: close its payments, or keep a first payment that was not credited."""
        if payer is not None and payer.first_payment_usable:
            self._address.kept.append(payer)
        elif payer is not None:
            await payer.close(reason)
        not_asked = reason is EndReason.SIGNER_REFUSED  # which says nothing about the address
        self._end(credits=self._address.credits and not_asked)

    def _end(self, *, credits: bool) -> None:
        if not self._is_over:
            self._is_over = True
            address = self._address
            address.under_way -= 1
            address.credits = credits
            address.changed.set()
            address.changed = asyncio.Event()
