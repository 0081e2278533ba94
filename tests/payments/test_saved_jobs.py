"""What the ledger's database keeps of jobs, on either database."""

from __future__ import annotations

import pytest

from gateway.payments.ledger import Ledger
from gateway.payments.saved_jobs import JobDetails, SavedJob
from gateway.payments.saved_session import save
from gateway.payments.steps import Step
from gateway.reason import EndReason
from tests.payments.ledgers import payment, record
from tests.payments.sessions import S, new_session, sign_and_start

pytestmark = pytest.mark.asyncio


async def test_a_job_is_kept_with_its_payments_until_its_session_is_closed(where: str) -> None:
    session = new_session()
    sign_and_start(session, S)
    details = JobDetails({"params": "x" * 100_000}, lambda: 7)
    ledger = await Ledger.open(where)
    one = await ledger.open_session(record("one"))
    other = await ledger.open_session(record("other"))
    made = payment(1, 1, 60)
    for session_id in (one, other):
        await ledger.intended(session_id, 1)
        await ledger.signed(
            session_id,
            1,
            made,
            manifest_id="",
            price=made.ticket_ev,
            saved=SavedJob.of(details, save(session)),
        )
        await ledger.delivered(session_id, 1)
    details.details = {"params": "newer"}
    await ledger.credited(one, 1, saved=SavedJob.of(details, save(session)))
    await ledger.close()

    ledger = await Ledger.open(where)
    kept = {former.session_id: former for former in await ledger.former_jobs()}
    assert [kept[one].payment, kept[other].payment] == [Step.CREDITED, Step.DELIVERED]
    assert [kept[one].handed_out, kept[other].handed_out] == [False, True]
    assert kept[one].read() == ({"params": "newer"}, 7, save(session))
    assert kept[other].read()[0] == {"params": "x" * 100_000}
    await ledger.abandon(kept[other], "nobody came")
    await ledger.go_on(kept[one])
    assert [former.session_id for former in await ledger.former_jobs()] == [one]
    await ledger.close_session(kept[one].session_id, EndReason.DELETED)
    assert await ledger.former_jobs() == []
    await ledger.close()
    ledger = await Ledger.open(where)
    assert await ledger.former_jobs() == []
    await ledger.close()


async def test_nothing_is_kept_of_a_line_that_cannot_be_right(where: str) -> None:
    session = new_session()
    sign_and_start(session, S)
    ledger = await Ledger.open(where)
    one = await ledger.open_session(record("one"))
    made, saved = payment(1, 1, 60), SavedJob.of(JobDetails({}), save(session))
    with pytest.raises(Exception, match="not asked for"):
        await ledger.signed(one, 1, made, manifest_id="", price=made.ticket_ev, saved=saved)
    assert await ledger.former_jobs() == []
    await ledger.close()
