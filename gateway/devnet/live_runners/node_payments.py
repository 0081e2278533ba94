"""Payments for live runners as livepeer/node 1.0 takes them: challenges are kept, all or no tickets taken."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from google.protobuf.message import DecodeError
from typing_extensions import override

from gateway.devnet.go_texts import decode_base64
from gateway.devnet.live_runners.dialect import Dialect
from gateway.devnet.live_runners.payments import Json, Payments
from gateway.devnet.live_runners.price import RunnerPrice
from gateway.devnet.live_runners.refusal import RequestRefused, not_found
from gateway.devnet.live_runners.runner import RegisteredRunner
from gateway.devnet.live_runners.session import LiveSession
from gateway.devnet.orchestrator.refusal import TicketRefused
from gateway.devnet.orchestrator.ticket_params import issue_number
from gateway.orchestrator.livepeer_pb2 import OrchestratorInfo, Payment, SegData

MAX_CHALLENGES = 100_000
MAX_TICKETS = 100
NONCES = range(1, 600)


@dataclass(slots=True)
class _Challenge:
    """What a payer was asked for; `info` is the newest one that he got."""

    runner: RegisteredRunner
    payer: bytes
    price: RunnerPrice
    info: OrchestratorInfo

    def check(self, payment: Payment, _: SegData) -> None:
        """Raise TicketRefused for a payment of another sender, at another price, or of too many tickets."""
        tickets = payment.ticket_sender_params
        if payment.sender != self.payer or payment.expected_price != self.info.price_info:
            raise TicketRefused("invalid payment")
        if not 0 < len(tickets) <= MAX_TICKETS or not payment.HasField("ticket_params"):
            raise TicketRefused("invalid payment")
        if any(ticket.sender_nonce not in NONCES for ticket in tickets):
            raise TicketRefused("invalid payment")
        if not payment.HasField("expiration_params"):
            payment.expiration_params.CopyFrom(payment.ticket_params.expiration_params)


class NodePayments(Payments):
    """The price of a session is the one of its challenge, even if the runner's has moved."""

    def __init__(self, dialect: Dialect, **parts: Any) -> None:
        super().__init__(dialect, **parts)
        self._challenged: dict[str, _Challenge] = {}

    @override
    def challenge(self, runner: RegisteredRunner, payer: bytes) -> Json:
        session_id, price = self.dialect.session_id(), runner.price
        assert price is not None
        if len(self._challenged) >= MAX_CHALLENGES:
            raise RequestRefused(502, "payment challenge unavailable")
        challenge = _Challenge(runner, payer, price, self._new_info(payer, price, session_id))
        self._challenged[session_id] = challenge
        return self._answer(session_id, challenge)

    @override
    async def reserve(self, runner: RegisteredRunner, payment: str, segment: str) -> Json:
        session_id = _session_id(segment)
        challenge = self._challenged.get(session_id)
        if challenge is None or challenge.runner is not runner:
            raise RequestRefused(403, "payment challenge not found")
        if runner.price_stale:
            raise RequestRefused(503, "runner price is stale")
        with ExitStack() as held:
            held.enter_context(self._slot(runner, session_id, full_status=409))
            receipt = await self._receiver.accept(payment, segment, check=challenge.check)
            if challenge.price.unit == "fixed" and receipt.session.balance < challenge.price.wei:
                raise RequestRefused(402, "insufficient payment balance")
            self._cheat(409)
        return self._begin(runner, session_id, challenge.price, receipt.session)

    @override
    async def pay(self, runner: RegisteredRunner, session: LiveSession, payment: str, segment: str) -> Json:
        if not session.metered:
            raise RequestRefused(409, "fixed-price sessions do not accept follow-up payments")
        if _session_id(segment) != session.id:
            raise RequestRefused(403, "invalid payment")
        challenge = self._challenged[session.id]
        receipt = await self._receiver.accept(payment, segment, check=challenge.check)
        if self._conduct.ticket_factor > 1:
            challenge.info = self._new_info(
                challenge.payer, challenge.price, session.id, self._conduct.ticket_factor
            )
        receipt.session.newest_answer = issue_number(challenge.info.ticket_params)
        return self._answer(session.id, challenge)

    @override
    def refresh(self, payer: bytes, manifest_id: str) -> Json:
        challenge = self._challenged.get(manifest_id)
        if challenge is None or challenge.payer != payer:
            raise not_found("payment challenge")
        challenge.info = self._new_info(payer, challenge.price, manifest_id)
        return self._answer(manifest_id, challenge)

    def _new_info(
        self, payer: bytes, price: RunnerPrice, session_id: str, ticket_factor: int = 1
    ) -> OrchestratorInfo:
        token = self._challenges.tokens.issue(session_id)
        worth = price.per_second or Fraction(price.wei)
        return self._challenges.info(payer, price.wei, worth, token, ticket_factor)

    def _answer(self, session_id: str, challenge: _Challenge) -> Json:
        url = self.payment_url(challenge.runner, session_id)
        return self._challenges.to_json(challenge.info, session_id, url)


def _session_id(segment: str) -> str:
    """The session of credentials. Raises RequestRefused: 402 where they do not decode, 403 for two."""
    try:
        credentials = SegData.FromString(decode_base64(segment))
    except (ValueError, DecodeError) as error:
        raise RequestRefused(402, "invalid segment credentials") from error
    session_id = credentials.auth_token.session_id
    if not session_id or credentials.manifestId != session_id.encode():
        raise RequestRefused(403, "invalid segment credentials")
    return session_id
