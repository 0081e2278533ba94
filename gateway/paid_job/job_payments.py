"""Who pays one job: from its turn to hand out a first payment until its session is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.first_payments import FirstPayments, Turn
from gateway.payments.job_identity import JobIdentity
from gateway.payments.payee import Payee
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.saved_jobs import JobDetails
from gateway.payments.signing_rules import JOB_FLOW, PaymentFlow
from gateway.reason import ChooseAgain, Ended, EndReason, NoRoom
from gateway.stream.seam import PublishRequest
from signer_client import LivePayment

MAX_TURN = 30.0
"""Seconds until other streams' starts at the same address are answered."""


class JobPayments:
    """The payments of one job for `request`.

    `addr` and `url` are its orchestrator's, as the ledger and logs have them. `details` are
    kept with each payment, for another run of the gateway; None keeps nothing.
    """

    def __init__(
        self,
        first_payments: FirstPayments,
        request: PublishRequest,
        *,
        addr: str,
        url: str,
        log: FilteringBoundLogger,
        details: JobDetails | None = None,
        max_turn: float = MAX_TURN,
    ) -> None:
        self.payer: Payer | None = None
        """None until the first payment is about to be signed, or where nothing is paid."""
        self.details = details
        self._first_payments = first_payments
        self._request = request
        self._addr = addr
        self._url = url
        self._log = log
        self._max_turn = max_turn
        self._turn: Turn | None = None

    def goes_on(self, payer: Payer) -> None:
        """This one has paid the job in a former run of the gateway."""
        self.payer = payer
        if self.details is not None:
            payer.keep(self.details)

    @property
    def handed_out_before(self) -> bool:
        """Whether the first payment is one that an earlier start was not credited for."""
        return self._turn is not None and self._turn.kept is not None

    async def first(
        self,
        payments: PaymentResources,
        payee: Payee,
        info: OrchestratorInfo,
        *,
        flow: PaymentFlow = JOB_FLOW,
        serves: Callable[[Payee], bool] = lambda payee: True,
        proven: bool = False,
        chosen: Callable[[Payee], None] = lambda payee: None,
    ) -> LivePayment:
        """The payment for the start: one that was handed out there before, or a new one.

        `serves` tells whether a former one's payee can serve this job: where it cannot, who is `proven` to
        have delivered gets a new one. `chosen` is told who is paid before anything is written down.

        Raises Ended.
        """
        request = self._request
        job = JobIdentity(
            stream=request.name,
            stream_id=request.stream_id,
            request_id=request.request_id,
            addr=self._addr,
            customer=request.customer,
        )
        limit, budget, log = request.wei_limits.wei, request.budget, self._log
        turn = await self._wait_turn(info.recipient, serves, proven=proven)
        if turn.kept is None:
            chosen(payee)
            self.payer = Payer(
                payments,
                payee,
                info,
                job=job,
                flow=flow,
                limit=limit,
                budget=budget,
                log=log,
                details=self.details,
            )
        else:
            self.payer = turn.kept  # which is kept again if it cannot serve this job
            if not serves(turn.kept.payee):
                detail = f"{self._url}: a payment for a former start elsewhere is not credited yet"
                raise NoRoom(EndReason.ORCHESTRATOR_LOST, detail)
            chosen(turn.kept.payee)
            log.info("first payment of a former start is handed out again")
            await turn.kept.adopt(job, limit=limit, budget=budget, log=log, details=self.details)
        try:
            return await self.payer.first_payment()
        except Ended as refused:
            if self.payer.needs_challenge:
                raise ChooseAgain(refused.reason, f"{self._url}: {refused.detail}") from refused
            why = payments.types.refusal(flow.rules.type)
            if why and refused.reason is EndReason.PAYMENT_REFUSED:  # which is nobody's fault
                raise ChooseAgain(refused.reason, f"{self._url}: {why}") from refused
            raise

    def credited(self) -> None:
        """The job started: its first payment is credited."""
        if self._turn is not None:
            self._turn.credited()

    async def drop(self) -> None:
        """Close the session of a former start's payment, which is of no use: another one is to be signed."""
        await self.close(EndReason.ORCHESTRATOR_LOST)
        self._turn = self.payer = None

    async def close(self, reason: EndReason) -> None:
        """End the session, or keep a first payment that was not credited for the next start."""
        if self._turn is not None:
            await self._turn.close(self.payer, reason)
        elif self.payer is not None:
            await self.payer.close(reason)

    async def _wait_turn(self, recipient: str, serves: Callable[[Payee], bool], *, proven: bool) -> Turn:
        try:
            async with asyncio.timeout(self._max_turn):
                self._turn = await self._first_payments.turn(
                    recipient, self._request.customer, serves=lambda one: serves(one.payee), proven=proven
                )
        except TimeoutError:
            detail = f"{self._url} has not answered another stream's start yet"
            raise NoRoom(EndReason.ORCHESTRATOR_LOST, detail) from None
        return self._turn
