"""Checks and credits the tickets of a payment, for whatever they pay; counts for the audit."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from gateway.devnet.orchestrator.compatibility import compatible
from gateway.devnet.orchestrator.credentials import check_signature, read_credentials
from gateway.devnet.orchestrator.refusal import BadCredentials, NonceSeen, OrchestratorRefusal, TicketRefused
from gateway.devnet.orchestrator.session import PaymentCounts, Session, Sessions
from gateway.devnet.orchestrator.ticket_params import ParamsIssuer
from gateway.devnet.orchestrator.tickets import (
    Batch,
    NonceBook,
    WinningTicket,
    check_batch,
    expected_price,
    read_payment,
)
from gateway.devnet.orchestrator.tokens import Tokens
from gateway.eth_address import checksummed
from gateway.orchestrator.livepeer_pb2 import Capabilities, Payment, SegData

MAX_DELIVERIES = 100_000
"""Limit of payments remembered by their digest, to recognise a repeated delivery."""

Check = Callable[[Payment, SegData], None]


@dataclass(frozen=True, slots=True)
class Receipt:
    """An accepted payment: the session that it was credited to, and its credentials."""

    session: Session
    payment: Payment
    credentials: SegData


class TicketReceiver:
    """Checks payments and credits them. It keeps nonces, balances and, for the audit, digests."""

    def __init__(
        self,
        *,
        issuer: ParamsIssuer,
        tokens: Tokens,
        nonces: NonceBook,
        sessions: Sessions,
        is_free: Callable[[], bool] = lambda: False,
        offered: Callable[[], Capabilities] = Capabilities,
        won: Callable[[WinningTicket], None] | None = None,
        all_or_nothing: bool = False,
    ) -> None:
        """`is_free`: whether nothing is paid, so that nothing is signed either.

        `all_or_nothing`: a batch with one bad ticket credits none and uses up no nonce.
        """
        self._issuer = issuer
        self._tokens = tokens
        self._nonces = nonces
        self._sessions = sessions
        self._is_free = is_free
        self._offered = offered
        self._won = won
        self._all_or_nothing = all_or_nothing
        self._delivered: OrderedDict[bytes, PaymentCounts] = OrderedDict()

    async def accept(
        self,
        payment_header: str,
        segment_header: str,
        *,
        manifest_id: str = "",
        check: Check = lambda _, __: None,
    ) -> Receipt:
        """Credit a payment to `manifest_id`, by default the one in the credentials.

        `check` is called once the credentials are good, before any ticket is looked at; it may raise an
        OrchestratorRefusal. A payment without ticket params fixes the session's price at 0. Raises
        UnreadablePayment, BadCredentials or TicketRefused; the tickets before a refused one are credited.
        """
        digest = hashlib.sha256(payment_header.encode()).digest()
        repeated: PaymentCounts | None = None
        counts = self._sessions.unattributed
        try:
            payment = read_payment(payment_header)
            if payment.ticket_sender_params:
                repeated = self._delivered.get(digest)
                counts = repeated or counts
                counts.redelivered += repeated is not None
                self._remember(digest, counts)
            credentials = self._check_credentials(segment_header, payment)
            check(payment, credentials)
            manifest_id = manifest_id or credentials.manifestId.decode("utf-8", "replace")
            session = self._sessions.open(self._sender(payment), manifest_id)
            if self._is_free():
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
            if self._all_or_nothing:
                self._nonces.check(batch)
            self._take(batch, session)
        except OrchestratorRefusal as refusal:
            if repeated is None:
                counts.rejected += 1
                counts.duplicate_nonces += isinstance(refusal, NonceSeen)
            raise
        session.counts.payments += 1
        return Receipt(session, payment, credentials)

    def _remember(self, digest: bytes, counts: PaymentCounts) -> None:
        self._delivered[digest] = counts
        if len(self._delivered) > MAX_DELIVERIES:
            self._delivered.popitem(last=False)

    def _sender(self, payment: Payment) -> str:
        if self._is_free():
            return ""
        return checksummed(payment.sender[-20:].rjust(20, b"\0"))

    def _check_credentials(self, header: str, payment: Payment) -> SegData:
        credentials = read_credentials(header)
        if not self._is_free():
            check_signature(credentials, payment.sender)
        if not compatible(credentials.capabilities, self._offered()):
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
