"""Receives payments: go-livepeer's checks in its order, and the counts for the audit."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from eth_utils.address import to_checksum_address

from gateway.devnet.orchestrator.compatibility import compatible
from gateway.devnet.orchestrator.credentials import check_signature, read_credentials
from gateway.devnet.orchestrator.offer import Offer, Tariff
from gateway.devnet.orchestrator.refusal import (
    BadCredentials,
    InsufficientBalance,
    NonceSeen,
    Refusal,
    TicketRefused,
    UnknownSession,
)
from gateway.devnet.orchestrator.session import Counts, Session, Sessions
from gateway.devnet.orchestrator.ticket_params import ParamsIssuer, expected_value, issue_number
from gateway.devnet.orchestrator.tickets import (
    Batch,
    NonceBook,
    WinningTicket,
    check_batch,
    expected_price,
    read_payment,
)
from gateway.devnet.orchestrator.tokens import Tokens
from gateway.money import wei_per_second
from gateway.orchestrator.livepeer_pb2 import OrchestratorInfo, Payment, PaymentResult, SegData

MAX_DELIVERIES = 100_000
"""Limit of payments remembered by their digest, to recognise a repeated delivery."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """An accepted payment: the session that it was credited to, and its credentials."""

    session: Session
    payment: Payment
    credentials: SegData


class PaymentReceiver:
    """Checks and credits payments. It keeps nonces, balances and, for the audit, digests."""

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
        self._offer = offer
        self._tariff = tariff
        self._issuer = issuer
        self._tokens = tokens
        self._nonces = nonces
        self._sessions = sessions
        self._won = won
        self._ticket_factor = ticket_factor
        self._delivered: OrderedDict[bytes, Counts] = OrderedDict()

    async def accept(self, payment_header: str, segment_header: str, *, manifest_id: str = "") -> Receipt:
        """Credit a payment to `manifest_id`, by default the one in the credentials.

        A payment without ticket params fixes the session's price at 0. Raises UnreadablePayment,
        BadCredentials or TicketRefused; the tickets before a refused one are credited.
        """
        digest = hashlib.sha256(payment_header.encode()).digest()
        repeated: Counts | None = None
        counts = self._sessions.unattributed
        try:
            payment = read_payment(payment_header)
            if payment.ticket_sender_params:
                repeated = self._delivered.get(digest)
                counts = repeated or counts
                counts.redelivered += repeated is not None
                self._remember(digest, counts)
            credentials = self._check_credentials(segment_header, payment)
            manifest_id = manifest_id or credentials.manifestId.decode("utf-8", "replace")
            session = self._sessions.open(self._sender(payment), manifest_id)
            if self._tariff.price is None:
                return Receipt(session, payment, credentials)
            if not payment.HasField("ticket_params"):
                self._sessions.fix_price(session, Fraction(0))
                return Receipt(session, payment, credentials)
            if not payment.sender:
                raise TicketRefused("Could not find Sender for payment")
            self._sessions.fix_price(session, expected_price(payment))
            batch = await asyncio.to_thread(
                check_batch, payment, recipient=self._issuer.recipient, secret=self._issuer.secret
            )
            if repeated is None:
                counts = session.counts
                self._remember(digest, counts)
                counts.stale_params += batch.issue_number < session.newest_answer
            self._take(batch, session)
        except Refusal as refusal:
            if repeated is None:
                counts.rejected += 1
                counts.duplicate_nonces += isinstance(refusal, NonceSeen)
            raise
        session.counts.payments += 1
        return Receipt(session, payment, credentials)

    def start_debiting(self, receipt: Receipt) -> None:
        """Debit the session at the price that its first payment names.

        Raises InsufficientBalance where that is above 0 and the balance is below one ticket's value.
        """
        price, named = self._tariff.price, receipt.payment.expected_price
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
        session = self._sessions.find(to_checksum_address(sender), manifest_id)
        if session is None or session.fixed_price is None:
            raise UnknownSession("fixed price not found for session")
        return self._offer.params(sender, token=self._tokens.issue(manifest_id), price=session.fixed_price)

    def _remember(self, digest: bytes, counts: Counts) -> None:
        self._delivered[digest] = counts
        if len(self._delivered) > MAX_DELIVERIES:
            self._delivered.popitem(last=False)

    def _sender(self, payment: Payment) -> str:
        if self._tariff.price is None:
            return ""
        return to_checksum_address(payment.sender[-20:].rjust(20, b"\0"))

    def _check_credentials(self, header: str, payment: Payment) -> SegData:
        credentials = read_credentials(header)
        if self._tariff.price is not None:
            check_signature(credentials, payment.sender)
        if not compatible(credentials.capabilities, self._offer.capabilities()):
            raise BadCredentials("incompatible capabilities")
        self._tokens.check(credentials.auth_token)
        return credentials

    def _take(self, batch: Batch, session: Session) -> None:
        """Note all tickets and credit those before the first bad one. Raises what the last bad one raised."""
        refusal: TicketRefused | None = None
        for ticket in batch.tickets:
            fault: TicketRefused | None = None
            try:
                self._nonces.receive(batch, ticket)
            except TicketRefused as error:
                fault = refusal = error
            if refusal is None:
                self._sessions.know(session.sender)
                session.credit(batch.value)
                session.counts.tickets += 1
            if ticket.winning is not None and not isinstance(fault, NonceSeen):
                session.counts.winning_tickets += 1
                if self._won is not None:
                    self._won(ticket.winning)
        if refusal is not None:
            raise refusal
