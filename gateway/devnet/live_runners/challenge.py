"""The payment challenge of a reserve: what the payer's signer needs for the tickets."""

from __future__ import annotations

import base64
import re
import secrets
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gateway.devnet.account import Account
from gateway.devnet.orchestrator.ticket_params import ParamsIssuer, expected_value
from gateway.devnet.orchestrator.tokens import Tokens
from gateway.orchestrator.livepeer_pb2 import AuthToken, OrchestratorInfo, PriceInfo

ADDRESS = re.compile(r"(0[xX])?[0-9a-fA-F]{40}")


def read_address(text: object) -> bytes | None:
    """The 20 bytes of an address in hex, None for anything else and for the zero address."""
    if not isinstance(text, str) or not ADDRESS.fullmatch(text.strip()):
        return None
    address = bytes.fromhex(text.strip()[-40:])
    return address if any(address) else None


@dataclass(slots=True, kw_only=True)
class ChallengeMaker:
    """`address` (20 bytes) is the orchestrator's, `url` its service URI, set once its port is known."""

    issuer: ParamsIssuer
    tokens: Tokens
    address: bytes
    ticket_seconds: Fraction
    url: str = ""

    def move(self) -> None:
        """Take a new address, which is paid too."""
        self.address = self.issuer.recipient = Account(secrets.token_bytes(32)).raw_address

    def info(
        self, payer: bytes, wei: int, per_second: Fraction, token: AuthToken, ticket_factor: int = 1
    ) -> OrchestratorInfo:
        """Ticket params for `payer` at `wei` for each unit; tickets are worth seconds at `per_second`."""
        value = expected_value(per_second, self.ticket_seconds * ticket_factor)
        return OrchestratorInfo(
            transcoder=self.url,
            ticket_params=self.issuer.issue_for_unit(payer, Fraction(wei), value),
            price_info=PriceInfo(pricePerUnit=wei, pixelsPerUnit=1),
            address=self.address,
            auth_token=token,
        )

    def to_json(self, info: OrchestratorInfo, manifest_id: str, payment_url: str) -> dict[str, Any]:
        """The four fields of a challenge, of a refresh, and of a node's answer to a payment."""
        return {
            "payment_params": base64.b64encode(info.SerializeToString()).decode(),
            "orchestrator": self.url,
            "manifest_id": manifest_id,
            "payment_url": payment_url,
        }
