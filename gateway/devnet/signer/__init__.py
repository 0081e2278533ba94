"""A remote signer like go-livepeer's: HTTP and JSON, stateless, real tickets."""

from gateway.devnet.signer.config import ListedOrchestrator, SignerConfig
from gateway.devnet.signer.server import Signer, serve

__all__ = ["ListedOrchestrator", "Signer", "SignerConfig", "serve"]
