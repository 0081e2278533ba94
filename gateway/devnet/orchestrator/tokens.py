"""Auth tokens: they tie a payment's credentials to an OrchestratorInfo of this orchestrator."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass

from gateway.devnet.chain_clock import ChainClock
from gateway.devnet.orchestrator.refusal import BadCredentials
from gateway.orchestrator.livepeer_pb2 import AuthToken


def token(secret: bytes, session_id: str, expiration: int) -> bytes:
    """HMAC-SHA256 over the session id and its expiration (unix seconds) as minimal big-endian bytes."""
    return hmac.digest(secret, session_id.encode() + minimal(expiration), "sha256")


def minimal(number: int) -> bytes:
    """A non-negative integer as big-endian bytes without leading zeros: empty for 0."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Issues and checks tokens that live `life` seconds, without storing them."""

    secret: bytes
    clock: ChainClock
    life: float

    def issue(self, session_id: str = "") -> AuthToken:
        """A token for a session; by default the session is new."""
        session_id = session_id or secrets.token_hex(4)
        expiration = self.clock.unix() + int(self.life)
        return AuthToken(
            token=token(self.secret, session_id, expiration), session_id=session_id, expiration=expiration
        )

    def check(self, presented: AuthToken) -> None:
        """Raise BadCredentials for a token of another orchestrator, an expired one or none."""
        if not presented.ByteSize():
            raise BadCredentials("missing auth token")
        if presented.expiration < 0 or not hmac.compare_digest(
            presented.token, token(self.secret, presented.session_id, presented.expiration)
        ):
            raise BadCredentials("invalid auth token")
        if self.clock.now_ns() > presented.expiration * 10**9:
            raise BadCredentials("expired auth token")
