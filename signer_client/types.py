"""Values that are sent to a remote signer, and that it returns."""

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
"""The unit of a maximum price, by payment type."""

_DECIMALS = 18


@dataclass(frozen=True, slots=True)
class SignerIdentity:
    """The signer's address (0x.., checksummed) and its signature over keccak256 of that text."""

    address: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class SignerState:
    """The signer's data about a session: send it back unchanged with the next request.

    Both fields are base64 text; only the signer interprets them.
    """

    state: str = field(repr=False)
    signature: str = field(repr=False)
    names: tuple[str, str] = ("State", "Sig")
    """How the signer calls them: go-livepeer and livepeer/node differ."""


@dataclass(frozen=True, slots=True)
class LivePayment:
    """A signed payment: two header values for the orchestrator, to be sent unchanged, and the next state.

    Anybody who has `payment` and `seg_creds` can spend them once: keep them out of logs.
    """

    payment: str = field(repr=False)
    seg_creds: str = field(repr=False)
    state: SignerState

    @property
    def payment_bytes(self) -> bytes:
        """The serialised `Payment` message."""
        return base64.b64decode(self.payment)


@dataclass(frozen=True, slots=True)
class MaxPrice:
    """The highest price that the signer may accept: a decimal number of wei per `unit`."""

    price: str
    unit: str
    currency: str = "wei"

    @classmethod
    def of(cls, wei_per_unit: Fraction, payment_type: PaymentType = "lv2v") -> MaxPrice:
        """The price as a decimal, rounded up at the 18th place so that an equal price is accepted.

        The unit of `lv2v` is one 720p pixel.
        """
        scaled = -(-wei_per_unit.numerator * 10**_DECIMALS // wei_per_unit.denominator)
        whole, places = divmod(scaled, 10**_DECIMALS)
        decimal = f"{whole}.{places:0{_DECIMALS}d}".rstrip("0").rstrip(".")
        return cls(decimal, PRICE_UNITS[payment_type])


@dataclass(frozen=True, slots=True)
class DiscoveredOrchestrator:
    """An orchestrator that the signer knows; `address` is a URL. What it does not tell is empty or None."""

    address: str
    score: float | None = None
    capabilities: tuple[str, ...] = ()
