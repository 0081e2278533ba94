"""One orchestrator: its ports, its parts, their order of start and stop."""

from __future__ import annotations

from gateway.devnet.orchestrator.config import OrchestratorAddress, OrchestratorConfig


class Orchestrator:
    """`start` listens on both ports, `stop` ends every session and gives everything back."""

    def __init__(self, config: OrchestratorConfig) -> None:
        self._config = config

    async def start(self) -> OrchestratorAddress:
        raise NotImplementedError

    async def stop(self) -> None:
        raise NotImplementedError


async def serve(config: OrchestratorConfig) -> Orchestrator:
    """Start an orchestrator and hand it back running; where it is: `orchestrator.where`."""
    orchestrator = Orchestrator(config)
    await orchestrator.start()
    return orchestrator
