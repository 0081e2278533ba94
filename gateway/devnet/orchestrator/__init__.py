"""An orchestrator as the network has them: gRPC and HTTPS, every check of a payment, debits by the second."""

from gateway.devnet.orchestrator.config import OnChain, OrchestratorAddress, OrchestratorConfig
from gateway.devnet.orchestrator.server import Orchestrator, serve

__all__ = ["OnChain", "Orchestrator", "OrchestratorAddress", "OrchestratorConfig", "serve"]
