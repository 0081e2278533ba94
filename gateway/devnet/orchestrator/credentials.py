"""Segment credentials: the header that names a payment's sender and session."""

from __future__ import annotations

from eth_hash.auto import keccak
from google.protobuf.message import DecodeError

from gateway.devnet.go_texts import BAD_PROTOBUF, decode_base64
from gateway.devnet.orchestrator.refusal import BadCredentials
from gateway.orchestrator.livepeer_pb2 import SegData
from gateway.payments.ticket import recover

MAX_DURATION_MS = 300_000


def read_credentials(header: str) -> SegData:
    """The SegData in a `Livepeer-Segment` header. Raises BadCredentials."""
    try:
        data = decode_base64(header)
    except ValueError as error:
        raise BadCredentials("ErrorSegEncoding") from error
    try:
        credentials = SegData.FromString(data)
    except DecodeError as error:
        raise BadCredentials(BAD_PROTOBUF) from error
    if not 0 <= credentials.duration <= MAX_DURATION_MS:
        raise BadCredentials("invalid duration")
    return credentials


def signed_message(credentials: SegData) -> bytes:
    """The bytes that the sender signs: manifest id, sequence number, hash; for payments no profiles."""
    return credentials.manifestId + credentials.seq.to_bytes(32, "big", signed=True) + credentials.hash


def check_signature(credentials: SegData, sender: bytes) -> None:
    """Raise BadCredentials unless `sender` (20 bytes) signed them."""
    try:
        signer = recover(keccak(signed_message(credentials)), credentials.sig)
    except ValueError as error:
        raise BadCredentials("ErrSegSig") from error
    if signer != sender:
        raise BadCredentials("ErrSegSig")
