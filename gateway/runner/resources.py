"""What all jobs on live runners share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.payments.first_payments import FirstPayments
from gateway.payments.resources import PaymentResources
from gateway.runner.client import RunnerClient
from gateway.runner.pool import RunnerPool
from gateway.runner.profile import AppProfile


@dataclass(frozen=True)
class RunnerResources:
    """The client, the known runners, the apps' profiles, and what they are paid from."""

    client: RunnerClient
    pool: RunnerPool
    apps: Mapping[str, str]
    """The app for each name that a publisher may give."""
    profiles: Mapping[str, AppProfile]
    """One for each of the apps."""
    payments: PaymentResources | None
    """None where nothing is paid."""
    first_payments: FirstPayments = field(default_factory=FirstPayments)
