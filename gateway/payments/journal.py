"""One session's entries in the ledger."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from fractions import Fraction
from typing import Any

from gateway.payments.errors import LedgerError, SessionTakenOver
from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger import Ledger, SessionRecord
from gateway.payments.payment import Payment
from gateway.payments.saved_jobs import JobDetails, SavedJob
from gateway.payments.saved_session import save
from gateway.payments.session import PaymentSession
from gateway.payments.shared_limits import HoldRequest
from gateway.reason import Ended, EndReason
from signer_client import LivePayment


class Journal:
    """Writes the steps of the session's current payment.

    With `details`, what the job needs to go on in another run of the gateway is kept with each payment. A
    session that is in the ledger already has its id there and the number of its newest payment.
    Every method raises Ended where its step cannot be written: then nothing more is paid.
    """

    def __init__(
        self,
        ledger: Ledger,
        record: SessionRecord,
        payments: PaymentSession,
        details: JobDetails | None = None,
        *,
        session: str = "",
        number: int = 0,
    ) -> None:
        self.details = details
        self._ledger = ledger
        self._record = record
        self._payments = payments
        self._session = session
        self._number = number

    @property
    def opened(self) -> bool:
        """Whether the session is in the ledger."""
        return bool(self._session)

    @property
    def number(self) -> int:
        """The current payment, from 1."""
        return self._number

    async def open(self) -> None:
        self._session = await _written(self._ledger.open_session(self._record))

    async def move(self, job: JobIdentity, publisher: str, request: HoldRequest | None = None) -> None:
        """The session serves another job from now on, and counts for who publishes that one.

        Raises SpendLimitReached where its payment does not fit into what is requested.
        """
        saved = self._saved()
        details = saved.details if saved else ""
        await _written(self._ledger.move_session(self._session, job, publisher, details, request))

    async def details_changed(self) -> None:
        """Write the job's details now, and not with the next payment."""
        if self.details is not None:
            await _written(self._ledger.save_details(self._session, self.details.text))

    async def forget_job(self) -> None:
        """No other node may go on with the job any more."""
        self.details = None
        await _written(self._ledger.forget_job(self._session))

    async def intended(self, number: int, request: HoldRequest | None = None, *, again: bool = False) -> None:
        """The signer is about to be called; written once for each payment, however many calls it takes.

        Unless it is to be written `again`, or something is requested, which is held for each call. Raises
        SpendLimitReached where that does not fit.
        """
        if number != self._number or request is not None or again:
            await _written(self._ledger.intended(self._session, number, request))
            self._number = number

    async def release(self) -> None:
        """A call gave no payment: what was held for it is free, at the latest after its time."""
        with suppress(LedgerError):
            await self._ledger.release(self._session, self._number)

    async def signed(
        self, payment: Payment, *, manifest_id: str, price: Fraction, request: HoldRequest | None = None
    ) -> None:
        """Raises SpendLimitReached where it is withheld, for it does not fit into what was requested."""
        saved = self._saved(payment.live)
        await _written(
            self._ledger.signed(
                self._session,
                self._number,
                payment,
                manifest_id=manifest_id,
                price=price,
                saved=saved,
                request=request,
            )
        )

    async def lost(self, most: Fraction, detail: str) -> None:
        """The signer's answer is lost or of no use; it may bill up to `most` wei for it."""
        await _written(self._ledger.lost(self._session, self._number, most, detail))

    async def withheld(self, detail: str) -> None:
        """The payment failed our own checks, and is not sent."""
        await _written(self._ledger.withheld(self._session, self._number, detail))

    async def delivered(self, detail: str = "") -> None:
        await _written(self._ledger.delivered(self._session, self._number, detail))

    async def credited(self, detail: str = "") -> None:
        await _written(self._ledger.credited(self._session, self._number, detail, self._saved()))

    async def handed_out(self, detail: str) -> None:
        """The job that the payment was sent with did not start."""
        await _written(self._ledger.handed_out(self._session, self._number, detail))

    async def refused(self, detail: str) -> None:
        await _written(self._ledger.refused(self._session, self._number, detail))

    async def unknown(self, detail: str) -> None:
        await _written(self._ledger.unknown(self._session, self._number, detail))

    async def close(self, reason: EndReason, detail: str, owed: Fraction) -> None:
        await _written(self._ledger.close_session(self._session, reason, detail, owed=owed))

    def _saved(self, payment: LivePayment | None = None) -> SavedJob | None:
        """What another run needs, with a payment that is signed and not taken by the session yet."""
        return None if self.details is None else SavedJob.of(self.details, save(self._payments, payment))


async def _written(write: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await write
    except SessionTakenOver as error:
        raise Ended(EndReason.TAKEN_OVER, str(error)) from error
    except LedgerError as error:
        raise Ended(
            EndReason.INTERNAL_ERROR, f"payments stopped, since they cannot be written down: {error}"
        ) from error
