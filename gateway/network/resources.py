"""What all jobs on the network share."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.network.uplink import Uplink
from gateway.orchestrator.client import OrchestratorClient
from gateway.orchestrator.pool import OrchestratorPool
from gateway.payments.first_payments import FirstPayments
from gateway.payments.resources import PaymentResources
from gateway.trickle.left_channels import LeftChannels


@dataclass(frozen=True)
class NetworkResources:
    """Clients, the known orchestrators, and what they are paid from."""

    orchestrators: OrchestratorClient
    pool: OrchestratorPool
    uplink: Uplink
    payments: PaymentResources | None
    """None where nothing is paid."""
    first_payments: FirstPayments = field(default_factory=FirstPayments)
    left_channels: LeftChannels = field(default_factory=LeftChannels)
