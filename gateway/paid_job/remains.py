"""What a former run of the gateway left of a job, as the kind of job understands it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from gateway.orchestrator.info import OrchestratorInfo
from gateway.orchestrator.selection import Refusal
from gateway.paid_job.former_run import FormerRun
from gateway.payments.payee import Payee
from gateway.payments.payer import Payer
from gateway.payments.resources import PaymentResources
from gateway.payments.saved_jobs import FormerJob
from gateway.payments.saved_session import SavedSession
from gateway.stream.seam import Candidate, Job, JobHost, Json, PublishRequest


class Remains(Protocol):
    """One job's."""

    @property
    def started(self) -> bool:
        """Whether it was written down that the job had started."""

    async def reopen(self) -> None:
        """Get what its kind of job needs; the other members are for afterwards, but `give_back`.

        Raises NotResumable, UnknownModel or TooManyModels.
        """

    @property
    def payments(self) -> PaymentResources | None: ...

    @property
    def payee(self) -> Payee: ...

    def refusal(self, info: OrchestratorInfo) -> Refusal | None:
        """Why nothing more is paid on this info; None where it may be."""

    def keep(self, payer: Payer) -> None:
        """The job had not started: its first payment is for the next start there."""

    def candidate(self, payer: Payer, price: Fraction) -> Candidate: ...

    def job(self, candidate: Candidate, run: FormerRun, host: JobHost, log: FilteringBoundLogger) -> Job: ...

    async def give_back(self) -> None:
        """Nobody goes on with it: free the room that it takes."""


RemainsReader = Callable[[Json, PublishRequest, FormerJob, SavedSession], Remains]
"""Reads them from a job's details. Raises ValueError or NotResumable."""
