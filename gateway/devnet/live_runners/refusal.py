"""Refused requests, each with its status; `http.py` writes them as the dialect does."""

from __future__ import annotations

from gateway.devnet.orchestrator.refusal import OrchestratorRefusal


class RequestRefused(OrchestratorRefusal):
    """A request that is answered with `status` and a text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def not_found(what: str) -> RequestRefused:
    return RequestRefused(404, f"{what} not found")
