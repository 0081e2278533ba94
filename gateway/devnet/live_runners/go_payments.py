"""Payments for live runners as go-livepeer 0.9.1 takes them: challenges are not kept, only recomputed."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction

from typing_extensions import override

from gateway.devnet.live_runners.payments import Json, Payments
from gateway.devnet.live_runners.price import RunnerPrice
from gateway.devnet.live_runners.refusal import RequestRefused
from gateway.devnet.live_runners.runner import RegisteredRunner
from gateway.devnet.live_runners.session import LiveSession
from gateway.devnet.orchestrator.refusal import BadCredentials, TicketRefused
from gateway.devnet.orchestrator.session import Session
from gateway.devnet.orchestrator.ticket_params import issue_number
from gateway.eth_address import checksummed
from gateway.money import PIXELS_PER_SECOND
from gateway.orchestrator.livepeer_pb2 import AuthToken, OrchestratorInfo, Payment, PaymentResult, SegData


class GoPayments(Payments):
    """The price of a metered session is the one that its first payment names, whatever it is by then."""

    @override
    def challenge(self, runner: RegisteredRunner, payer: bytes) -> Json:
        manifest_id, price = self.dialect.session_id(), runner.price
        assert price is not None
        token = self._challenges.tokens.issue(manifest_id)
        info = self._challenges.info(payer, price.wei, price.per_second or Fraction(price.wei), token)
        return self._challenges.to_json(info, manifest_id, self.payment_url(runner, manifest_id))

    @override
    async def reserve(self, runner: RegisteredRunner, payment: str, segment: str) -> Json:
        price = runner.price
        assert price is not None
        with ExitStack() as held:

            def check(paid: Payment, credentials: SegData) -> None:
                session_id = _session_id(credentials)
                if price.unit == "fixed" and paid.expected_price.pricePerUnit != price.wei:
                    raise RequestRefused(400, "the price has changed: ask for a new challenge")
                held.enter_context(self._slot(runner, session_id, full_status=503))
                if not paid.HasField("ticket_params"):
                    raise TicketRefused("missing ticket params")

            receipt = await self._receiver.accept(payment, segment, check=check)
            account = receipt.session
            if price.unit == "fixed" and account.balance < price.wei:
                raise RequestRefused(400, "insufficient payment")
            self._cheat(503)
        named = receipt.payment.expected_price
        agreed = RunnerPrice(named.pricePerUnit // named.pixelsPerUnit, price.unit, price.usd)
        return self._begin(runner, account.manifest_id, agreed, account)

    @override
    async def pay(self, runner: RegisteredRunner, session: LiveSession, payment: str, segment: str) -> bytes:
        if not session.metered:
            raise RequestRefused(409, "a fixed price is paid once")
        account = session.account
        assert account is not None
        # The answer is made before the payment is booked: the first one of a payer new to this node has the
        # node's base price, which is 0.
        fixed_before = account.fixed_price is not None

        def check(_: Payment, credentials: SegData) -> None:
            if _session_id(credentials) != session.id:
                raise BadCredentials("manifest id mismatch")

        receipt = await self._receiver.accept(payment, segment, check=check)
        payer, token = receipt.payment.sender, receipt.credentials.auth_token
        if fixed_before:
            info = self._session_info(payer, account, token, self._conduct.ticket_factor)
            account.newest_answer = issue_number(info.ticket_params)
        else:
            info = self._challenges.info(payer, 0, Fraction(0), token)
        return PaymentResult(info=info.SerializeToString()).SerializeToString()

    @override
    def refresh(self, payer: bytes, manifest_id: str) -> Json:
        account = self._accounts.find(checksummed(payer), manifest_id)
        if account is None or account.fixed_price is None or account.price is None:
            raise RequestRefused(409, "fixed price not found for session")
        info = self._session_info(payer, account, self._challenges.tokens.issue(manifest_id))
        return self._challenges.to_json(info, manifest_id, f"{self._challenges.url}/payment")

    def _session_info(
        self, payer: bytes, account: Session, token: AuthToken, ticket_factor: int = 1
    ) -> OrchestratorInfo:
        """Ticket params at the price that was fixed for the session."""
        assert account.fixed_price is not None
        assert account.price is not None
        # prices of payments are kept per second of 720p pixels, whatever their unit is
        wei = int(account.fixed_price / PIXELS_PER_SECOND)
        return self._challenges.info(payer, wei, account.price, token, ticket_factor)


def _session_id(credentials: SegData) -> str:
    """The session of credentials, which manifest id and auth token must both name. Raises BadCredentials."""
    session_id = credentials.manifestId.decode("utf-8", "replace")
    if session_id != credentials.auth_token.session_id:
        raise BadCredentials("manifest id mismatch")
    return session_id
