"""What goes into `Livepeer-Segment` where no signer is there to write it."""

from __future__ import annotations

import base64

from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.info import OrchestratorInfo


def unsigned_credentials(info: OrchestratorInfo) -> str:
    """Segment credentials for an off-chain orchestrator: its own auth token, and no signature."""
    credentials = livepeer_pb2.SegData(auth_token=info.message.auth_token)
    return base64.b64encode(credentials.SerializeToString()).decode()
