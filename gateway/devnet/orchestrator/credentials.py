"""Segment credentials: the header that names a payment's sender and session."""

from __future__ import annotations

import base64
import binascii

from eth_hash.auto import keccak
from google.protobuf.message import DecodeError

from gateway.devnet.orchestrator.refusal import BadCredentials
from gateway.orchestrator.livepeer_pb2 import SegData
from gateway.payments.ticket import recover


def read_credentials(header: str) -> SegData:
    """The SegData in a `Livepeer-Segment` header. Raises BadCredentials."""
    try:
        return SegData.FromString(base64.b64decode(header, validate=True))
    except (binascii.Error, ValueError, DecodeError) as error:
        raise BadCredentials("the segment credentials cannot be read") from error


def signed_message(credentials: SegData) -> bytes:
    """The bytes that the sender signs: manifest id, sequence number, hash; for payments no profiles."""
    return credentials.manifestId + credentials.seq.to_bytes(32, "big", signed=True) + credentials.hash


def check_signature(credentials: SegData, sender: bytes) -> None:
    """Raise BadCredentials unless `sender` (20 bytes) signed them."""
    try:
        signer = recover(keccak(signed_message(credentials)), credentials.sig)
    except ValueError as error:
        raise BadCredentials("invalid segment signature") from error
    if signer != sender:
        raise BadCredentials("the segment is not signed by the payment's sender")
