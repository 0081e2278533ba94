"""The actions that a payment session asks for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.payment import Payment
from gateway.reason import EndReason
from signer_client import SignerState


class RefreshKind(Enum):
    INFO = "GetOrchestrator, with or without free capacity"
    FIXED_PRICE = "refresh-payment, for the price that the session started with"


@dataclass(frozen=True, slots=True)
class Sign:
    """Ask the signer for payment `number` (from 1) of the session."""

    number: int
    state: SignerState | None
    info: OrchestratorInfo
    manifest_id: str


@dataclass(frozen=True, slots=True)
class StartJob:
    """Start the job with this payment in its request."""

    payment: Payment


@dataclass(frozen=True, slots=True)
class Deliver:
    """Send this payment to the orchestrator; every attempt (from 1) has the same bytes."""

    payment: Payment
    attempt: int


@dataclass(frozen=True, slots=True)
class Refresh:
    """Fetch newer OrchestratorInfo."""

    kind: RefreshKind


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until that time."""

    until: int


@dataclass(frozen=True, slots=True)
class Leave:
    """Stop paying and end the job, for this reason."""

    reason: EndReason
    detail: str


Action = Sign | StartJob | Deliver | Refresh | Wait | Leave
