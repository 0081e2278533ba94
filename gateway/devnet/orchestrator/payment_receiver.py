"""What payments for jobs begin and are answered with: debits, and ticket params for the next payment."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from gateway.devnet.orchestrator.offer import Offer, Tariff
from gateway.devnet.orchestrator.refusal import InsufficientBalance, UnknownSession
from gateway.devnet.orchestrator.session import Sessions
from gateway.devnet.orchestrator.ticket_params import ParamsIssuer, expected_value, issue_number
from gateway.devnet.orchestrator.ticket_receiver import Receipt, TicketReceiver
from gateway.devnet.orchestrator.tickets import NonceBook, WinningTicket
from gateway.devnet.orchestrator.tokens import Tokens
from gateway.eth_address import checksummed
from gateway.money import wei_per_second
from gateway.orchestrator.livepeer_pb2 import OrchestratorInfo, PaymentResult


class PaymentReceiver(TicketReceiver):
    """Receives the payments for jobs and answers them with an OrchestratorInfo."""

    def __init__(
        self,
        *,
        offer: Offer,
        tariff: Tariff,
        issuer: ParamsIssuer,
        tokens: Tokens,
        nonces: NonceBook,
        sessions: Sessions,
        won: Callable[[WinningTicket], None] | None = None,
        ticket_factor: int = 1,
    ) -> None:
        """`ticket_factor`: how much larger tickets become in answers to payments."""
        super().__init__(
            issuer=issuer,
            tokens=tokens,
            nonces=nonces,
            sessions=sessions,
            is_free=lambda: tariff.price is None,
            offered=offer.capabilities,
            won=won,
        )
        self._offer = offer
        self._ticket_factor = ticket_factor

    def start_debiting(self, receipt: Receipt, price: Fraction | None) -> None:
        """Debit the session at the price that its first payment names.

        Raises InsufficientBalance where that is above 0 and the balance is below the value of one ticket at
        `price`, the model's (wei per second; None off-chain).
        """
        named = receipt.payment.expected_price
        if price is None or named.pricePerUnit <= 0:
            return
        session = receipt.session
        self._sessions.know(session.sender)
        if session.balance < expected_value(price, self._issuer.ticket_seconds):
            raise InsufficientBalance("Insufficient balance")
        session.price = wei_per_second(named.pricePerUnit, named.pixelsPerUnit)

    def result(self, receipt: Receipt) -> bytes:
        """The serialised PaymentResult: ticket params for the next payment.

        They are at the price that was fixed for the auth token's session, else at the current one: a
        session is named by its token only after a refresh of its params.
        """
        credentials = receipt.credentials
        named = self._sessions.find(receipt.session.sender, credentials.auth_token.session_id)
        info = self._offer.info(
            receipt.payment.sender,
            credentials.capabilities,
            token=credentials.auth_token,
            price=None if named is None else named.fixed_price,
            ticket_factor=self._ticket_factor,
        )
        if info.HasField("ticket_params"):
            receipt.session.newest_answer = issue_number(info.ticket_params)
        return PaymentResult(info=info.SerializeToString()).SerializeToString()

    def refresh(self, sender: bytes, manifest_id: str) -> OrchestratorInfo:
        """Ticket params at the session's fixed price, with a token whose session id is the manifest id.

        Raises UnknownSession, also for a sender's first session until its second payment.
        """
        session = self._sessions.find(checksummed(sender), manifest_id)
        if session is None or session.fixed_price is None:
            raise UnknownSession("fixed price not found for session")
        return self._offer.params(sender, token=self._tokens.issue(manifest_id), price=session.fixed_price)
