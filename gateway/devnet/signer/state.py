"""The state of a payment session, which the signer gives to the caller, signed, and does not keep."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

NANOSECONDS = 10**9
NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerSession:
    """A payment session after its newest payment.

    `payment_session` is the recipientRandHash that `sender_nonce` (the last one used) counts for,
    `last_update` is unix nanoseconds, None before the first payment, `balance` is exact wei. The initial
    price is wei per `initial_pixels_per_unit` units of `type`. `auth_id` and `auth_expiry` come from an
    auth webhook: empty and 0 without one.
    """

    state_id: str
    payment_session: bytes = b""
    last_update: int | None = None
    orchestrator: bytes
    sender_nonce: int = 0
    balance: Fraction = Fraction(0)
    initial_price_per_unit: int
    initial_pixels_per_unit: int
    type: str
    sequence: int = 0
    app: str = ""
    auth_id: str = ""
    auth_expiry: int = 0
    manifest_id: str = ""
    """What a node's signer binds the state to; empty in go-livepeer's."""

    @property
    def initial_price(self) -> Fraction:
        """Wei per unit. Raises ZeroDivisionError for a state that was made up."""
        return Fraction(self.initial_price_per_unit, self.initial_pixels_per_unit)

    def to_json(self) -> bytes:
        """The JSON bytes that are signed, as go-livepeer writes them."""
        return json.dumps(
            {
                "StateID": self.state_id,
                "PMSessionID": _hex(self.payment_session),
                "LastUpdate": NEVER if self.last_update is None else _rfc3339(self.last_update),
                "OrchestratorAddress": _hex(self.orchestrator),
                "App": self.app,
                "AuthExpiry": self.auth_expiry,
                "SenderNonce": self.sender_nonce,
                "Balance": str(self.balance),
                "InitialPricePerUnit": self.initial_price_per_unit,
                "InitialPixelsPerUnit": self.initial_pixels_per_unit,
                "Type": self.type,
                "SequenceNumber": self.sequence,
                "AuthID": self.auth_id,
                **({"ManifestID": self.manifest_id} if self.manifest_id else {}),
            },
            separators=(",", ":"),
            ensure_ascii=False,
        ).encode()

    @classmethod
    def from_json(cls, raw: bytes) -> SignerSession:
        """Parse what `to_json` wrote. Raises ValueError."""
        try:
            fields: dict[str, Any] = json.loads(raw)
            return cls(
                state_id=str(fields["StateID"]),
                payment_session=_unhex(fields["PMSessionID"]),
                last_update=_unix_ns(fields["LastUpdate"]),
                orchestrator=_unhex(fields["OrchestratorAddress"]),
                sender_nonce=int(fields["SenderNonce"]),
                balance=Fraction(fields["Balance"]),
                initial_price_per_unit=int(fields["InitialPricePerUnit"]),
                initial_pixels_per_unit=int(fields["InitialPixelsPerUnit"]),
                type=str(fields["Type"]),
                sequence=int(fields["SequenceNumber"]),
                app=str(fields["App"]),
                auth_id=str(fields["AuthID"]),
                auth_expiry=int(fields["AuthExpiry"]),
                manifest_id=str(fields.get("ManifestID", "")),
            )
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise ValueError("not a signer's state") from error


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _rfc3339(unix_ns: int) -> str:
    """A time as Go writes it: UTC, nanoseconds without zeros at the end."""
    seconds, nanoseconds = divmod(unix_ns, NANOSECONDS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{nanoseconds:09}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


def _unix_ns(text: str) -> int | None:
    if text == NEVER:
        return None
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.strptime(whole + "+0000", "%Y-%m-%dT%H:%M:%S%z").timestamp())
    return seconds * NANOSECONDS + int(fraction.ljust(9, "0") or 0)
