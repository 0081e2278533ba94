"""Jobs as the ledger's database keeps them: what a later run of the gateway needs to go on with them.

A row is written with each payment, before that is handed out, and removed when its session is closed. It
holds the signer's state, a payment and the job's secret URLs: it is not for logs and routes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from gateway.payments.books import signed_wall_ns
from gateway.payments.database import rows_of
from gateway.payments.job_identity import JobIdentity
from gateway.payments.saved_session import SavedSession
from gateway.payments.schema import payments, saved_details, saved_jobs, sessions
from gateway.payments.session_key import SessionKey
from gateway.payments.steps import Step
from gateway.payments.timebase import Moment

VERSION = 1
"""Of what is in a row: another one is not read."""

Json = dict[str, Any]


class JobDetails:
    """What a job needs beside its payments, kept up to date by the job; only its own kind understands it."""

    def __init__(self, details: Json, position: Callable[[], int | None] = lambda: None) -> None:
        self.details = details
        self.position = position
        """How far it has come, in units of its own."""

    @property
    def details(self) -> Json:
        """What seldom changes: not to be changed, but replaced."""
        return self._details

    @details.setter
    def details(self, details: Json) -> None:
        self._details = details
        self._text = ""

    @property
    def text(self) -> str:
        """They as JSON: made when they are to be written, as updates may follow each other."""
        if not self._text:
            self._text = json.dumps(self._details)
        return self._text


@dataclass(frozen=True, slots=True)
class SavedJob:
    """What is written of a job, as JSON text: `details` where they changed, `progress` with each payment."""

    details: str = field(repr=False)
    progress: str = field(repr=False)

    @classmethod
    def of(cls, job: JobDetails, session: SavedSession) -> SavedJob:
        progress = {"version": VERSION, "position": job.position(), "session": session.json()}
        return cls(job.text, json.dumps(progress))


@dataclass(frozen=True, slots=True)
class FormerJob:
    """A job of a former run whose session is open."""

    session_id: str
    number: int
    """Of the session: later ones have higher numbers."""
    job: JobIdentity
    sender: str
    recipient: str
    """Who is paid."""
    unanswered: int | None
    """The payment that the signer was asked for, where it gave no answer."""
    saved: SavedJob
    saved_at: Moment
    signed: int
    """How many payments were signed."""
    payment: Step | None
    """The newest payment's last step."""
    signed_wall_ns: int
    """When it was signed."""
    later: int = 0
    """Nanoseconds by which this machine's monotonic clock is later than the one of what is saved."""

    def read(self) -> tuple[Json, int | None, SavedSession]:
        """Details, position and payment session. Raises ValueError where it cannot be right."""
        try:
            details, progress = json.loads(self.saved.details), json.loads(self.saved.progress)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        if not isinstance(details, dict) or not isinstance(progress, dict):
            raise ValueError("it is no JSON object")
        if progress.get("version") != VERSION:
            raise ValueError(f"its version is not {VERSION}")
        position = progress.get("position")
        if position is not None and (isinstance(position, bool) or not isinstance(position, int)):
            raise ValueError("its position is not a number")
        session = SavedSession.parse(progress.get("session"))
        if self.signed != session.payments + bool(session.payment):
            raise ValueError("it is not that of the newest payment")
        return details, position, session.moved(self.later) if self.later else session

    @property
    def handed_out(self) -> bool:
        """Whether the newest payment may have arrived."""
        return self.payment in (Step.DELIVERED, Step.UNKNOWN)


def read_former_jobs(connection: Connection, *of: ColumnElement[bool]) -> list[FormerJob]:
    """The jobs that are kept, the oldest session first: all, or those whose session is such."""
    both = select(saved_jobs, saved_details.c.details).outerjoin(
        saved_details, saved_details.c.session == saved_jobs.c.session
    )
    kept = {row["session"]: row for row in rows_of(connection, both)}
    query = select(sessions).where(
        sessions.c.number.in_(list(kept)), sessions.c.closed_wall_ns.is_(None), *of
    )
    return [
        _former_job(connection, kept[session["number"]], session)
        for session in rows_of(connection, query.order_by(sessions.c.number))
    ]


def _former_job(connection: Connection, row: Json, session: Json) -> FormerJob:
    of_session = select(payments).where(payments.c.session == session["number"])
    newest = rows_of(connection, of_session.order_by(payments.c.number.desc()).limit(1))
    payment = newest[0] if newest else None
    asked = session["asked_number"]
    signed = 0 if payment is None else payment["number"]
    return FormerJob(
        session_id=SessionKey(session["id"], session["epoch"]),
        number=session["number"],
        job=JobIdentity(
            stream=session["stream"],
            stream_id=session["stream_id"],
            request_id=session["request_id"],
            addr=session["orchestrator_addr"],
        ),
        sender=session["sender"],
        recipient=session["orchestrator_address"],
        unanswered=asked if asked is not None and asked > signed else None,
        saved=SavedJob(row["details"] or "", row["progress"]),
        saved_at=Moment(row["wall_ns"], row["monotonic_ns"]),
        signed=signed,
        payment=None if payment is None else Step(payment["state"]),
        signed_wall_ns=0 if payment is None else signed_wall_ns(payment),
    )
