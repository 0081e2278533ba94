"""Tickets of Livepeer's probabilistic micropayments: hash, signature, value, win.

Pure functions over integers and bytes. Addresses are their 20 bytes, amounts are wei.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from coincurve import PrivateKey, PublicKey
from eth_hash.auto import keccak

MAX_WIN_PROB = 2**256 - 1
"""The win probability of a ticket that always wins. A ticket's probability is `win_prob` / this."""

SIGNATURE_BYTES = 65

_NO_BLOCK = bytes(32)
_HALF_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141 // 2


@dataclass(frozen=True, slots=True)
class Ticket:
    """One ticket, as the TicketBroker contract hashes it. Wei, 20-byte addresses, 32-byte hashes."""

    recipient: bytes
    sender: bytes
    face_value: int
    win_prob: int
    sender_nonce: int
    recipient_rand_hash: bytes
    creation_round: int = 0
    creation_round_block_hash: bytes = _NO_BLOCK

    @property
    def aux(self) -> bytes:
        """The auxiliary data, as in `auxiliary_data`."""
        return auxiliary_data(self.creation_round, self.creation_round_block_hash)

    @property
    def hash(self) -> bytes:
        """The 32 bytes that the sender signs, the same that the contract computes."""
        return keccak(
            self.recipient
            + self.sender
            + _word(self.face_value)
            + _word(self.win_prob)
            + _word(self.sender_nonce)
            + self.recipient_rand_hash
            + self.aux
        )

    @property
    def expected_value(self) -> Fraction:
        """The ticket's expected value in wei."""
        return expected_value(self.face_value, self.win_prob)


def auxiliary_data(creation_round: int, creation_round_block_hash: bytes) -> bytes:
    """The round and its block hash as 64 bytes; nothing where both are zero."""
    block_hash = creation_round_block_hash.rjust(32, b"\0")
    if creation_round == 0 and block_hash == _NO_BLOCK:
        return b""
    return _word(creation_round) + block_hash


def expected_value(face_value: int, win_prob: int) -> Fraction:
    """faceValue x winProb / (2^256 - 1), in wei, exact."""
    return Fraction(face_value * win_prob, MAX_WIN_PROB)


def win_prob_for(face_value: int, ev: int) -> int:
    """The win probability with which a ticket of `face_value` wei has the expected value `ev` wei.

    The quotient is rounded up before it is multiplied, as orchestrators do. ValueError where `ev` is above
    the face value.
    """
    if face_value == 0:
        return 0
    if ev > face_value:
        raise ValueError(f"a ticket of {face_value} wei cannot have an expected value of {ev} wei")
    return min(MAX_WIN_PROB, ev * -(-MAX_WIN_PROB // face_value))


def wins(signature: bytes, recipient_rand: int, win_prob: int) -> bool:
    """Whether a ticket with this signature wins. Only the recipient knows `recipient_rand`."""
    return int.from_bytes(keccak(signature + _word(recipient_rand)), "big") < win_prob


def personal_digest(message: bytes) -> bytes:
    """The digest that Ethereum signs for a personal message (EIP-191, version 0x45)."""
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(message)).encode() + message)


def sign(message: bytes, key: PrivateKey) -> bytes:
    """The personal-message signature of `message`: 65 bytes r.s.v, v 27 or 28, low s."""
    signature = key.sign_recoverable(personal_digest(message), hasher=None)
    return signature[:64] + bytes([signature[64] + 27])


def recover(message: bytes, signature: bytes) -> bytes:
    """The 20-byte address whose key made the personal-message signature.

    ValueError for an invalid signature: another length, another v, or the higher of the two possible s.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise ValueError(f"a signature has {SIGNATURE_BYTES} bytes, not {len(signature)}")
    if signature[64] not in (27, 28):
        raise ValueError(f"a signature ends in 27 or 28, not {signature[64]}")
    if int.from_bytes(signature[32:64], "big") > _HALF_CURVE_ORDER:
        raise ValueError("the signature has a high s")
    recoverable = signature[:64] + bytes([signature[64] - 27])
    try:
        key = PublicKey.from_signature_and_message(recoverable, personal_digest(message), hasher=None)
    except Exception as error:  # coincurve raises bare Exception for points that are not on the curve
        raise ValueError("no key makes this signature") from error
    return address_of(key)


def address_of(key: PublicKey) -> bytes:
    """The 20-byte Ethereum address of a public key."""
    return keccak(key.format(compressed=False)[1:])[-20:]


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")
