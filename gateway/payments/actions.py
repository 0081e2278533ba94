"""What a payment session asks for next."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gateway.orchestrator.info import OrchestratorInfo
from gateway.payments.payment import Payment
from gateway.reason import EndReason
from signer_client import SignerState


class RefreshKind(Enum):
    INFO = "GetOrchestrator, whether it has capacity or not"
    FIXED_PRICE = "refresh-payment, for the price that the session started with"


@dataclass(frozen=True, slots=True)
class Sign:
    """Ask the signer for payment `number` (from 1) of the session."""

    number: int
    state: SignerState | None
    info: OrchestratorInfo
    manifest_id: str


@dataclass(frozen=True, slots=True)
class Start:
    """Start the job with this payment."""

    payment: Payment


@dataclass(frozen=True, slots=True)
class Deliver:
    """Deliver this payment; every attempt (from 1) carries the same bytes."""

    payment: Payment
    attempt: int


@dataclass(frozen=True, slots=True)
class Refresh:
    """Fetch OrchestratorInfo anew."""

    kind: RefreshKind


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until that time."""

    until: int


@dataclass(frozen=True, slots=True)
class Leave:
    """Pay no more: the job is over for this reason."""

    reason: EndReason
    detail: str


Action = Sign | Start | Deliver | Refresh | Wait | Leave
