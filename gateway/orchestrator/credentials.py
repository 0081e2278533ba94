"""The `Livepeer-Segment` header for orchestrators off-chain, where there is no signer."""

from __future__ import annotations

import base64

from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.info import OrchestratorInfo


def unsigned_credentials(info: OrchestratorInfo) -> str:
    """Segment credentials with the orchestrator's auth token and without a signature."""
    credentials = livepeer_pb2.SegData(auth_token=info.message.auth_token)
    return base64.b64encode(credentials.SerializeToString()).decode()
