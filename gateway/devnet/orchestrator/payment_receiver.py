"""Receives payments: go-livepeer's checks in its order, and the counts for the audit."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from eth_utils.address import to_checksum_address

from gateway.devnet.orchestrator.credentials import check_signature, read_credentials
from gateway.devnet.orchestrator.offer import Offer, Tariff
from gateway.devnet.orchestrator.refusal import (
    BadCredentials,
    InsufficientBalance,
    NonceSeen,
    Refusal,
    UnknownSession,
)
from gateway.devnet.orchestrator.session import Counts, Session, Sessions
from gateway.devnet.orchestrator.ticket_params import ParamsIssuer, expected_value, issue_number
from gateway.devnet.orchestrator.tickets import (
    Batch,
    CheckedTicket,
    NonceBook,
    WinningTicket,
    check_batch,
    read_payment,
)
from gateway.devnet.orchestrator.tokens import Tokens
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
    ) -> None:
        self._offer = offer
        self._tariff = tariff
        self._issuer = issuer
        self._tokens = tokens
        self._nonces = nonces
        self._sessions = sessions
        self._won = won
        self._delivered: OrderedDict[bytes, Counts] = OrderedDict()

    async def accept(self, payment_header: str, segment_header: str, *, manifest_id: str = "") -> Receipt:
        """Credit a payment to `manifest_id`, by default the one in the credentials.

        Raises UnreadablePayment, BadCredentials or TicketRefused; the tickets before a refused one are
        credited.
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
            if self._asks_nothing(payment):
                sender = "" if self._tariff.price is None else to_checksum_address(payment.sender)
                return Receipt(self._sessions.open(sender, manifest_id), payment, credentials)
            batch = await asyncio.to_thread(
                check_batch, payment, recipient=self._issuer.recipient, secret=self._issuer.secret
            )
            session = self._sessions.open(to_checksum_address(payment.sender), manifest_id)
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

    def require_first_ticket(self, session: Session) -> None:
        """Raise InsufficientBalance where the balance is below one ticket's expected value."""
        price = self._tariff.price
        if price is not None and session.balance < expected_value(price, self._issuer.ticket_seconds):
            raise InsufficientBalance("insufficient balance")

    def result(self, receipt: Receipt) -> bytes:
        """The serialised PaymentResult: ticket params for the next payment, at the current price."""
        info = self._offer.info(
            receipt.payment.sender, receipt.credentials.capabilities, token=receipt.credentials.auth_token
        )
        if info.HasField("ticket_params"):
            receipt.session.newest_answer = issue_number(info.ticket_params)
        return PaymentResult(info=info.SerializeToString()).SerializeToString()

    def refresh(self, sender: bytes, manifest_id: str) -> OrchestratorInfo:
        """Ticket params at the session's fixed price, with a token whose session id is the manifest id.

        Raises UnknownSession.
        """
        session = self._sessions.find(to_checksum_address(sender), manifest_id)
        if session is None or session.price is None:
            raise UnknownSession("no payment was received for that sender and manifest_id")
        token = self._tokens.issue(manifest_id)
        return self._offer.info(sender, self._offer.capabilities(), token=token, price=session.price)

    def _remember(self, digest: bytes, counts: Counts) -> None:
        self._delivered[digest] = counts
        if len(self._delivered) > MAX_DELIVERIES:
            self._delivered.popitem(last=False)

    def _asks_nothing(self, payment: Payment) -> bool:
        """Whether this payment needs no tickets: off-chain none does, at price zero one without params."""
        price = self._tariff.price
        return price is None or (price == 0 and not payment.HasField("ticket_params"))

    def _check_credentials(self, header: str, payment: Payment) -> SegData:
        credentials = read_credentials(header)
        if self._tariff.price is not None:
            check_signature(credentials, payment.sender)
            if not self._offer.serves(credentials.capabilities):
                raise BadCredentials("capabilities that are not offered here")
        self._tokens.check(credentials.auth_token)
        return credentials

    def _take(self, batch: Batch, session: Session) -> None:
        taken: list[CheckedTicket] = []
        try:
            for ticket in batch.tickets:
                self._nonces.receive(batch, ticket)
                taken.append(ticket)
        finally:
            if taken:
                session.price = batch.price if session.price is None else session.price
                session.credit(batch.value * len(taken))
                session.counts.tickets += len(taken)
                winning = [ticket.winning for ticket in taken if ticket.winning is not None]
                session.counts.winning_tickets += len(winning)
                if self._won is not None:
                    for won in winning:
                        self._won(won)
