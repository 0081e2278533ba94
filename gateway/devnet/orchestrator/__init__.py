"""An orchestrator like go-livepeer's: gRPC and HTTPS, all checks of a payment, debits by the second."""

from gateway.devnet.orchestrator.config import OnChain, OrchestratorAddress, OrchestratorConfig
from gateway.devnet.orchestrator.server import Orchestrator, serve

__all__ = ["OnChain", "Orchestrator", "OrchestratorAddress", "OrchestratorConfig", "serve"]
