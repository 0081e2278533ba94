"""An Ethereum account with its key. The devnet's signer and orchestrators have one, the gateway has none."""

from __future__ import annotations

from coincurve import PrivateKey

from gateway.eth_address import checksummed
from gateway.payments.ticket import address_of, sign


class Account:
    """`raw_address` is 20 bytes, `address` the 0x text with checksum (EIP-55)."""

    def __init__(self, key: bytes) -> None:
        self._key = PrivateKey(key)
        self.raw_address = address_of(self._key.public_key)
        self.address: str = checksummed(self.raw_address)

    def sign(self, message: bytes) -> bytes:
        """The 65-byte personal-message signature (EIP-191) of `message`."""
        return sign(message, self._key)
