"""Ethereum addresses as text, without the hundred modules that libraries for it import in each process."""

from __future__ import annotations

from eth_hash.auto import keccak

ADDRESS_BYTES = 20


def checksummed(address: bytes) -> str:
    """The 0x text of an address, the case of its letters a checksum (EIP-55).

    Raises ValueError where it is not of 20 bytes.
    """
    if len(address) != ADDRESS_BYTES:
        raise ValueError(f"an address has {ADDRESS_BYTES} bytes, not {len(address)}")
    digits = address.hex()
    cases = keccak(digits.encode()).hex()[: len(digits)]
    return "0x" + "".join(
        digit.upper() if case >= "8" else digit for digit, case in zip(digits, cases, strict=True)
    )
