"""The OrchestratorInfo that a session pays on, and the newer one that it needs."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.actions import Leave, RefreshKind
from gateway.payments.cadence import Cadence
from gateway.payments.terms import Terms
from gateway.payments.ticket_limits import TicketLimits
from gateway.reason import EndReason

MAX_REFRESHES = 3
"""Refreshes in a row, for a 480, a 481 or used-up ticket params, before the session leaves."""


class PaidInfo:
    """The info in use, and what it is replaced by. Where there is no way to go on a method gives a Leave.

    `ceiling` is wei per second, `interval` nanoseconds between payments, `opening` the seconds that the first
    one is for. The first price of a job can be asked for again once it runs, which the caller says by
    `running`.
    """

    def __init__(
        self,
        chosen: OrchestratorInfo,
        *,
        ceiling: Fraction,
        ticket_limits: TicketLimits,
        interval: int,
        opening: int,
    ) -> None:
        self.current = chosen
        """What is paid on: price and ticket params of one message."""
        self.needed: RefreshKind | None = None
        """The newer info to fetch before the next payment."""
        self._terms = Terms(
            chosen.message.address,
            chosen.message.ticket_params.recipient,
            ceiling,
            chosen.price or Fraction(0),
            ticket_limits,
        )
        self._interval = interval
        self._opening = opening
        self._paid = False
        self._asked = 0
        """Refreshes in a row that the signer asked for: until it signs, the current info is of no use."""
        self._fixed_price_refused = False

    @property
    def is_of_use(self) -> bool:
        """Whether the signer pays on the current info, as far as is known."""
        return not self._asked

    def signed(self, price: Fraction) -> None:
        """The signer made a payment; `price` is the session's first one."""
        self._terms = replace(self._terms, price=price)
        self._paid = True
        self._asked = 0

    def found_in_order(self) -> None:
        """The signer made no payment, and looked at price and params before it found nothing due."""
        self._asked = 0

    def ask(self, kind: RefreshKind, reason: EndReason, detail: str, *, running: bool) -> Leave | None:
        """The signer does not pay on the current info: another is needed, unless others did not help."""
        self._asked += 1
        if self._asked > MAX_REFRESHES:
            return Leave(reason, f"{detail}; {MAX_REFRESHES} refreshes in a row did not help")
        if kind is RefreshKind.FIXED_PRICE and not running:
            return Leave(reason, detail)
        self.needed = kind
        return None

    def take(self, info: OrchestratorInfo, *, running: bool, final: bool = False) -> Leave | None:
        """Pay on this info from now on, unless it breaks the terms.

        Where its price or its tickets do, the job's first price is asked for, unless this is the `final`
        answer to that. Then the former info stays until the signer asks for a newer one.
        """
        refusal = self._terms.refusal(info) or self._preload_refusal(info)
        if refusal is None:
            self.current = info
        elif refusal.reason is not EndReason.PRICE_RAISED or not running:
            return refusal
        elif not final and (self._asked or not self._fixed_price_refused):
            self.needed = RefreshKind.FIXED_PRICE
        elif self._asked:
            return refusal
        return None

    def came(self, info: OrchestratorInfo, kind: RefreshKind, *, running: bool) -> Leave | None:
        """The info that was needed."""
        self.needed = None
        return self.take(info, running=running, final=kind is RefreshKind.FIXED_PRICE)

    def no_fixed_price(self, detail: str) -> Leave | None:
        """The orchestrator refuses to give the job's first price: the current info stays if it is of use."""
        self._fixed_price_refused = True
        if self._asked:
            detail = f"the orchestrator no longer gives the first price: {detail}"
            return Leave(EndReason.PRICE_RAISED, detail)
        self.needed = None
        return None

    def do_without(self) -> None:
        """No newer info comes: the current ticket params are still good for some time."""
        self.needed = None

    def _preload_refusal(self, info: OrchestratorInfo) -> Leave | None:
        if self._paid or not info.price or not info.ticket_ev:
            return None
        refusal = Cadence(info.price, info.ticket_ev, self._interval, self._opening).refusal
        return Leave(EndReason.PAYMENT_REFUSED, refusal) if refusal else None
