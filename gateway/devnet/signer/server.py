"""The signer's HTTP shell."""

from __future__ import annotations

from gateway.devnet.signer.config import SignerConfig


class Signer:
    """One signer; `start` listens and gives its URL, `stop` gives everything back."""

    def __init__(self, config: SignerConfig) -> None:
        self._config = config

    async def start(self) -> str:
        raise NotImplementedError

    async def stop(self) -> None:
        raise NotImplementedError


async def serve(config: SignerConfig) -> Signer:
    """Start a signer and hand it back running; its URL is `signer.url`."""
    signer = Signer(config)
    await signer.start()
    return signer
