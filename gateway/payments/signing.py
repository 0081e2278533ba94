"""One session's calls to the signer: within the spend limits, checked, and in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction

from structlog.typing import FilteringBoundLogger

from gateway import money
from gateway.payments.actions import Sign
from gateway.payments.alarms import Alarms
from gateway.payments.customer import Customer
from gateway.payments.journal import Journal
from gateway.payments.payment import Payment, PaymentMismatch
from gateway.payments.resources import PaymentResources
from gateway.payments.session import PaymentSession
from gateway.payments.shared_limits import HoldRequest
from gateway.payments.signing_rules import PaymentFlow, SigningRules
from gateway.payments.spending import Hold, PublisherBudget, SpendLimitReached
from gateway.payments.timebase import NANOSECONDS
from gateway.reason import EndReason
from signer_client import (
    BadRequest,
    LivePayment,
    MaxPrice,
    NoTicketsNeeded,
    PriceExceeded,
    RefreshNeeded,
    Rejected,
    SignerBadAnswer,
    SignerError,
    SignerUnavailable,
    SignerUnreachable,
)

LOST_BY_PROXY = (502, 504, 520, 524)
"""Statuses of a proxy that asked the signer and did not get its answer; 520 and 524 are Cloudflare's."""
EVENT_TOO_LARGE = 413
"""Status of livepeer/node's signer: it paid nothing, and may pay by the same state later."""
MAX_ASKED_BEFORE = 30 * NANOSECONDS
"""After so long a question that is written down is written anew before a cluster's signer is called."""
VERIFIED_ON_THE_LOOP = 5
"""The signatures of a payment with more tickets than this are checked in a thread."""


class Signing:
    """Gets the payments that a session asks for from the signer, and tells the session the result.

    `customer` is who it is to the signer, `stream` the key that spending is counted under and `limit` its own
    limit in wei; `clock` is monotonic nanoseconds.
    """

    def __init__(
        self,
        resources: PaymentResources,
        session: PaymentSession,
        journal: Journal,
        alarms: Alarms,
        *,
        capabilities: bytes,
        flow: PaymentFlow,
        customer: Customer,
        stream: str,
        limit: int | None,
        budget: PublisherBudget,
        clock: Callable[[], int],
        log: FilteringBoundLogger,
    ) -> None:
        self.hold: Hold | None = None
        """What the last payment counts as in the limits."""
        self._resources = resources
        self._session = session
        self._journal = journal
        self._alarms = alarms
        self._capabilities = capabilities
        self._flow = flow
        self._customer = customer
        self._stream = stream
        self._limit = limit
        self._budget = budget
        self._clock = clock
        self._log = log
        self._sender = bytes.fromhex(resources.sender.removeprefix("0x"))
        self._max_price = MaxPrice.of(_per_unit(resources.ceiling, flow.rules), flow.rules.type)

    async def sign(self, sign: Sign) -> None:
        """Ask for a payment if the most that it can cost is within every limit.

        The caller holds one of the resources' signing slots. Raises Ended where the ledger cannot be written.
        """
        session = self._session
        try:
            request = await self._intended(sign)
        except SpendLimitReached as limit:
            self._limited(limit)
            return
        before = session.billing.payments
        try:
            await self._ask(sign, request)
        finally:
            if request is not None and session.billing.payments == before:
                await self._journal.release()

    async def _intended(self, sign: Sign) -> HoldRequest | None:
        """Write down that the signer is called now; gives what is held for it over the nodes of a cluster.

        There it is written anew where it took so long that another node may have taken the session over.
        Raises SpendLimitReached.
        """
        again, shared = False, self._resources.ledger.shared
        while True:
            asked_at, request = self._clock(), self._request(sign) if shared else None
            await self._journal.intended(sign.number, request, again=again)
            if not self._session.ended and (wait := self._session.wait_to_call(self._clock())):
                await asyncio.sleep(wait / NANOSECONDS)
            if not shared or self._clock() - asked_at < MAX_ASKED_BEFORE:
                return request
            again = True

    def _request(self, sign: Sign) -> HoldRequest | None:
        """What is to be held of the limits that the nodes of a cluster share; None where there are none."""
        session, now = self._session, self._clock()
        if session.ended:
            return None
        most = session.billing.max_due(sign.info, now + session.wait_to_call(now))
        request = HoldRequest(most, self._stream, self._budget, self._resources.spending.limits)
        return request if request.limits_wei or (sign.number == 1 and request.limits_starts) else None

    async def _ask(self, sign: Sign, request: HoldRequest | None) -> None:
        session = self._session
        if session.ended:
            session.withheld(EndReason.PAYMENT_REFUSED, "the job ended before the signer was asked")
            return
        now = self._clock()
        session.calling(now)
        try:
            most = session.billing.max_due(sign.info, now)
            hold = self._resources.spending.hold(self._stream, most, self._limit, self._budget)
        except SpendLimitReached as limit:
            self._limited(limit)
            return
        self.hold = hold
        self._alarms.events.spent(self._stream, self._limit, now)
        before = session.billing.payments
        try:
            await self._call(hold, sign, request)
        finally:
            if session.billing.payments == before:
                hold.settle(Fraction(0))

    def _limited(self, limit: SpendLimitReached) -> None:
        self._log_limit(limit)
        self._session.withheld(EndReason.SPEND_LIMIT, str(limit))

    def _log_limit(self, limit: SpendLimitReached) -> None:
        self._log.warning("spend limit reached", detail=str(limit), amounts=limit.amounts)

    async def _call(self, hold: Hold, sign: Sign, request: HoldRequest | None) -> None:
        session = self._session
        try:
            live = await self._resources.signer.generate_live_payment(
                orchestrator=sign.info.raw,
                state=sign.state,
                manifest_id=sign.manifest_id,
                capabilities=self._capabilities,
                payment_type=self._flow.rules.type,
                app=self._flow.app,
                max_price=self._max_price,
                retries=0,  # the session decides when to try again
                headers=self._customer.signer_headers,
            )
        except RefreshNeeded as error:
            self._log.info("signer needs newer ticket params", error=str(error))
            session.refresh_needed(str(error))
        except NoTicketsNeeded:
            session.no_tickets_needed(self._clock())
        except PriceExceeded as error:
            self._log.warning("signer refused the price", error=str(error))
            session.price_exceeded(str(error))
        except BadRequest as error:
            self._alarms.payment_failed("signer refused to pay", str(error))
            if sign.state is None:
                self._resources.types.told(self._flow.rules.type, error)
            session.signing_refused(str(error))
        except Rejected as error:
            if error.status == EVENT_TOO_LARGE and self._flow.app:
                self._failed(error)
                return
            # anybody may read the stream's status: the log and the operator's events have the name beside it
            who = "this customer" if self._customer.name else "this gateway"
            said = self._customer.hidden_in(str(error))
            self._alarms.payment_failed(f"signer refused {who}", said, customer=self._customer.name)
            session.withheld(EndReason.SIGNER_REFUSED, f"the signer refused {who}: {said}")
        except (SignerUnavailable, SignerBadAnswer, SignerUnreachable) as error:
            self._failed(error)
            if _may_be_billed(error):
                await self._journal.lost(hold.wei, str(error))
        else:
            await self._take(hold, sign, live, request)

    def _failed(self, error: SignerError) -> None:
        """It may pass."""
        self._session.signer_failed(f"no payment from the signer: {error}", self._clock())
        self._log.warning("signer failed", error=str(error), tries=self._session.schedule.failures)
        self._alarms.events.failed("signer", "signer failed", str(error))

    async def _take(self, hold: Hold, sign: Sign, live: LivePayment, request: HoldRequest | None) -> None:
        """Write the signer's payment down before it can be spent, and check it."""
        session, price = self._session, sign.info.price or Fraction(0)
        session.billing.answered(self._clock())
        try:
            payment = Payment.read(live)
        except PaymentMismatch as mismatch:
            self._alarms.payment_failed("payment is not what was asked for", str(mismatch))
            session.withheld(EndReason.PAYMENT_REFUSED, str(mismatch))
            await self._journal.lost(hold.wei, str(mismatch))
            return
        try:
            await self._journal.signed(payment, manifest_id=sign.manifest_id, price=price, request=request)
        except SpendLimitReached as limit:
            self._limited(limit)
            return
        try:
            session.billing.check(payment, sign.info, self._clock())
            if payment.tickets > VERIFIED_ON_THE_LOOP:
                await asyncio.to_thread(payment.verify, self._sender)
            else:
                payment.verify(self._sender)
            hold.cover(payment.value, self._limit)
        except PaymentMismatch as mismatch:
            self._alarms.payment_failed("payment is not what was asked for", str(mismatch))
            await self._withhold(EndReason.PAYMENT_REFUSED, str(mismatch))
        except SpendLimitReached as limit:
            self._log_limit(limit)
            await self._withhold(EndReason.SPEND_LIMIT, str(limit))
        else:
            session.signed(payment)
            self._alarms.watch_billing(session.billing.overbilled(self._clock()))

    async def _withhold(self, reason: EndReason, detail: str) -> None:
        """Deliver nothing of what the signer made."""
        self._session.withheld(reason, detail)
        await self._journal.withheld(detail)


def _per_unit(ceiling: Fraction, rules: SigningRules) -> Fraction:
    """The price ceiling in wei for what the type of payment is priced by."""
    return ceiling if rules.type == "live" else money.wei_per_pixel(ceiling)


def _may_be_billed(error: SignerError) -> bool:
    """Whether the signer may have made a payment, which did not come or cannot be read."""
    match error:
        case SignerUnreachable():
            return error.sent
        case SignerUnavailable():
            return error.status in LOST_BY_PROXY
        case _:
            return True
