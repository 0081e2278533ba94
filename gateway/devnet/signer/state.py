"""The state of a payment session, which the signer gives to the caller, signed, and does not keep."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """A payment session after its newest payment.

    `payment_session` is the recipientRandHash in hex that `sender_nonce` (the last one used) counts for,
    `last_update` is unix nanoseconds, `balance` is exact wei, `first_price` is wei per unit of `type`.
    `auth_id` and `auth_expiry` come from an auth webhook: empty and 0 without one.
    """

    state_id: str
    payment_session: str
    last_update: int
    orchestrator: str
    sender_nonce: int
    balance: Fraction
    first_price: Fraction
    type: str
    sequence: int
    app: str
    auth_id: str = ""
    auth_expiry: int = 0

    def to_json(self) -> bytes:
        """The JSON bytes that are signed."""
        return json.dumps(
            {
                "StateID": self.state_id,
                "PaymentSession": self.payment_session,
                "LastUpdate": str(self.last_update),
                "OrchestratorAddress": self.orchestrator,
                "SenderNonce": self.sender_nonce,
                "Balance": str(self.balance),
                "FirstPrice": str(self.first_price),
                "Type": self.type,
                "SequenceNumber": self.sequence,
                "App": self.app,
                "AuthID": self.auth_id,
                "AuthExpiry": self.auth_expiry,
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_json(cls, raw: bytes) -> SessionState:
        """Parse what `to_json` wrote. Raises ValueError."""
        try:
            fields: dict[str, Any] = json.loads(raw)
            return cls(
                state_id=str(fields["StateID"]),
                payment_session=str(fields["PaymentSession"]),
                last_update=int(fields["LastUpdate"]),
                orchestrator=str(fields["OrchestratorAddress"]),
                sender_nonce=int(fields["SenderNonce"]),
                balance=Fraction(fields["Balance"]),
                first_price=Fraction(fields["FirstPrice"]),
                type=str(fields["Type"]),
                sequence=int(fields["SequenceNumber"]),
                app=str(fields["App"]),
                auth_id=str(fields["AuthID"]),
                auth_expiry=int(fields["AuthExpiry"]),
            )
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise ValueError("not a signer's state") from error
