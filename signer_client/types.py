"""What goes to a remote signer and what comes back."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

PaymentType = Literal["lv2v", "live", "fixed"]
"""What is billed: 720p pixels of wall-clock time, seconds, or one unit."""

PRICE_UNITS: Mapping[PaymentType, str] = {
    "lv2v": "720p-pixel-seconds",
    "live": "seconds",
    "fixed": "fixed",
}
"""The unit that a maximum price is given in, by payment type."""

_DECIMALS = 18


@dataclass(frozen=True, slots=True)
class SignerIdentity:
    """Who pays: the signer's address (0x, checksummed) and its signature over keccak256 of that text."""

    address: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class SignerState:
    """The signer's own memory of a session, to be handed back unchanged with the next request.

    Both fields are the base64 text that came: nobody but the signer has business inside.
    """

    state: str = field(repr=False)
    signature: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class LivePayment:
    """A signed payment: two header values for the orchestrator, sent verbatim, and the signer's next state.

    Whoever holds `payment` and `seg_creds` can spend them once: they are no matter for a log.
    """

    payment: str = field(repr=False)
    seg_creds: str = field(repr=False)
    state: SignerState

    @property
    def payment_bytes(self) -> bytes:
        """The serialised `Payment` message inside the header."""
        return base64.b64decode(self.payment)


@dataclass(frozen=True, slots=True)
class MaxPrice:
    """The most that the signer may agree to: a decimal number of wei per `unit`."""

    price: str
    unit: str
    currency: str = "wei"

    @classmethod
    def of(cls, wei_per_unit: Fraction, payment_type: PaymentType = "lv2v") -> MaxPrice:
        """The exact price as a decimal, rounded up in its 18th place so that an equal price still passes.

        For `lv2v` the unit is one 720p pixel.
        """
        scaled = -(-wei_per_unit.numerator * 10**_DECIMALS // wei_per_unit.denominator)
        whole, places = divmod(scaled, 10**_DECIMALS)
        decimal = f"{whole}.{places:0{_DECIMALS}d}".rstrip("0").rstrip(".")
        return cls(decimal, PRICE_UNITS[payment_type])


@dataclass(frozen=True, slots=True)
class DiscoveredOrchestrator:
    """An orchestrator that the signer knows of; `address` is a URL. What was not said is empty or None."""

    address: str
    score: float | None = None
    capabilities: tuple[str, ...] = ()
