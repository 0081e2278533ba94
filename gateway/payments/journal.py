"""One session's entries in the ledger."""

from __future__ import annotations

from collections.abc import Coroutine
from fractions import Fraction
from typing import Any

from gateway.payments.errors import LedgerError
from gateway.payments.job_identity import JobIdentity
from gateway.payments.ledger import Ledger, SessionRecord
from gateway.payments.payment import Payment
from gateway.reason import Ended, EndReason


class Journal:
    """Writes the steps of the session's current payment.

    Every method raises Ended where its step cannot be written: then nothing more is paid.
    """

    def __init__(self, ledger: Ledger, record: SessionRecord) -> None:
        self._ledger = ledger
        self._record = record
        self._session = ""
        self._number = 0

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

    async def move(self, job: JobIdentity, publisher: str) -> None:
        """The session serves another job from now on, and counts for who publishes that one."""
        await _written(self._ledger.move_session(self._session, job, publisher))

    async def intended(self, number: int) -> None:
        """The signer is about to be called; written once for each payment, however many calls it takes."""
        if number != self._number:
            await _written(self._ledger.intended(self._session, number))
            self._number = number

    async def signed(self, payment: Payment, *, manifest_id: str, price: Fraction) -> None:
        await _written(
            self._ledger.signed(self._session, self._number, payment, manifest_id=manifest_id, price=price)
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
        await _written(self._ledger.credited(self._session, self._number, detail))

    async def handed_out(self, detail: str) -> None:
        """The job that the payment was sent with did not start."""
        await _written(self._ledger.handed_out(self._session, self._number, detail))

    async def refused(self, detail: str) -> None:
        await _written(self._ledger.refused(self._session, self._number, detail))

    async def unknown(self, detail: str) -> None:
        await _written(self._ledger.unknown(self._session, self._number, detail))

    async def close(self, reason: EndReason, detail: str, owed: Fraction) -> None:
        await _written(self._ledger.close_session(self._session, reason, detail, owed=owed))


async def _written(write: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await write
    except LedgerError as error:
        raise Ended(
            EndReason.INTERNAL_ERROR, f"payments stopped, since they cannot be written down: {error}"
        ) from error
