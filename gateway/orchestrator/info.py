"""OrchestratorInfo: an orchestrator's URL, price, ticket params and capabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError

from gateway.aio.inside import PUBLIC, Reach
from gateway.eth_address import ADDRESS_BYTES, checksummed
from gateway.money import wei_per_pixel, wei_per_second
from gateway.orchestrator import livepeer_pb2
from gateway.orchestrator.capabilities import LIVE_VIDEO_TO_VIDEO
from gateway.orchestrator.urls import DEFAULT_PORTS, MAX_URL, is_plain

HASH_BYTES = 32
NUMBER_BYTES = 32
"""Bytes of the largest number in a contract."""
MAX_SESSION_ID = 1024
MAX_MODEL = 127
"""Bytes of a model's name that a publisher may ask for by it."""
MAX_VERSION = 100
"""Characters of a version that are kept."""
MAX_LISTED = 32
"""Models of one answer that are told to publishers."""
MAX_WIN_PROB = 2**256 - 1
"""A ticket with this win probability always wins."""


class PriceUnit(Enum):
    """What an info's price is for; the message does not say."""

    PIXELS = "720p pixels"
    SECONDS = "seconds"


@dataclass(frozen=True, slots=True)
class OrchestratorInfo:
    """An OrchestratorInfo message with the bytes that it was parsed from.

    The bytes go to the signer unchanged, so that unknown fields survive. Price and ticket params are valid
    only together: take both from one instance.

    `message` is without the capabilities: thousands of models take many times their bytes as objects.
    """

    raw: bytes
    message: livepeer_pb2.OrchestratorInfo
    reach: Reach = PUBLIC
    """Where the URLs that this orchestrator names may lead."""
    unit: PriceUnit = PriceUnit.PIXELS
    version: str = ""
    """Of the go-livepeer that sent it; empty where it does not say."""
    _models: dict[str, ModelOffer] = field(default_factory=dict, repr=False, compare=False)
    """What was asked about models so far."""
    _listed: list[tuple[str, ...]] = field(default_factory=list, repr=False, compare=False)
    """The first models that it lists, once they were asked for."""

    @classmethod
    def parse(cls, raw: bytes, reach: Reach = PUBLIC, unit: PriceUnit = PriceUnit.PIXELS) -> OrchestratorInfo:
        """Parse and check the message. Raises ValueError with a sentence."""
        message = livepeer_pb2.OrchestratorInfo()
        try:
            message.ParseFromString(raw)
        except DecodeError as error:
            raise ValueError("not an OrchestratorInfo message") from error
        version = message.capabilities.version
        message.ClearField("capabilities")
        message.DiscardUnknownFields()
        small = livepeer_pb2.OrchestratorInfo()
        small.CopyFrom(message)
        version = version if version.isprintable() else ""
        info = cls(bytes(raw), small, reach, unit, version[:MAX_VERSION])
        info._check()
        return info

    def _check(self) -> None:
        given = self.message.transcoder
        if len(given) > MAX_URL:
            raise ValueError(f"its service URI is not a URL of at most {MAX_URL} characters: {given[:100]!r}")
        uri = urlsplit(given)
        if uri.scheme not in DEFAULT_PORTS or not is_plain(given, uri) or uri.port == 0:
            raise ValueError(f"its service URI is not a plain http(s) URL: {given[:100]!r}")
        if len(self.message.address) not in (0, ADDRESS_BYTES):
            raise ValueError(f"its address has {len(self.message.address)} bytes, not {ADDRESS_BYTES}")
        if len(self.session_id) > MAX_SESSION_ID:
            raise ValueError(f"its session id is over the limit of {MAX_SESSION_ID} characters")
        if self.has_ticket_params:
            _check_ticket_params(self.message.ticket_params)
        _ = self.price

    @property
    def url(self) -> str:
        """The service URI for HTTP calls, without trailing slash."""
        return self.message.transcoder.rstrip("/")

    @property
    def address(self) -> str:
        """The address that the node signs with, with its checksum (EIP-55); empty off-chain."""
        return _checksummed(self.message.address) if any(self.message.address) else ""

    @property
    def recipient(self) -> str:
        """The address that tickets pay, which is registered on chain; by default `address`.

        It is another where the node signs with a hot wallet and is paid on a cold one.
        """
        recipient = self.message.ticket_params.recipient
        return _checksummed(recipient) if len(recipient) == ADDRESS_BYTES else self.address

    @property
    def price(self) -> Fraction | None:
        """Wei per second, exact, for the capabilities that were asked for; None off-chain."""
        if not self.message.HasField("price_info"):
            return None
        price = self.message.price_info
        per_unit = wei_per_second(price.pricePerUnit, price.pixelsPerUnit)
        return per_unit if self.unit is PriceUnit.PIXELS else wei_per_pixel(per_unit)

    @property
    def has_ticket_params(self) -> bool:
        """Whether it wants to be paid: orchestrators off-chain send none."""
        return self.message.HasField("ticket_params")

    @property
    def ticket_ev(self) -> Fraction | None:
        """A ticket's expected value in wei: faceValue x winProb / (2^256 - 1); None without ticket params."""
        if not self.has_ticket_params:
            return None
        win_prob = int.from_bytes(self.message.ticket_params.win_prob, "big")
        return Fraction(self.face_value * win_prob, MAX_WIN_PROB)

    @property
    def face_value(self) -> int:
        """What a winning ticket takes from the sender's deposit, in wei; 0 without ticket params."""
        return int.from_bytes(self.message.ticket_params.face_value, "big")

    @property
    def ticket_seconds(self) -> Fraction | None:
        """How many seconds of stream one ticket buys; None where nothing is to be paid."""
        price, value = self.price, self.ticket_ev
        return value / price if price and value is not None else None

    @property
    def expiration_block(self) -> int | None:
        """The L1 block after which the ticket params are invalid."""
        if not self.has_ticket_params:
            return None
        return int.from_bytes(self.message.ticket_params.expiration_block, "big")

    @property
    def session_id(self) -> str:
        """Session id of the auth token: each GetOrchestrator answer has a new one."""
        return self.message.auth_token.session_id

    @property
    def token_expires_at(self) -> int | None:
        """When the auth token expires, in unix seconds by the orchestrator's clock."""
        return self.message.auth_token.expiration if self.message.HasField("auth_token") else None

    def offers(self, model: str) -> bool:
        """Whether it serves live video to video with this model.

        An orchestrator that lists no models for the capability counts as offering all: the job's start
        decides.
        """
        return self._offer(model).offered

    def warm(self, model: str) -> bool:
        """Whether it says that it has the model loaded."""
        return self._offer(model).warm

    def room(self, model: str) -> int | None:
        """For how many more jobs with this model it says that it has room; None where it does not say."""
        return self._offer(model).room or None

    def names(self, model: str) -> bool:
        """Whether it lists this model.

        Anybody may ask for any, so it is parsed only where its bytes have such a key of a map.
        """
        key = model.encode(errors="replace")
        if not 0 < len(key) <= MAX_MODEL or b"\n%c%s" % (len(key), key) not in self.raw:
            return False
        return self._offer(model).named

    def some_models(self) -> tuple[str, ...]:
        """The first models that it lists, at most MAX_LISTED."""
        if not self._listed:
            listed = _models(livepeer_pb2.OrchestratorInfo.FromString(self.raw))
            short = (model for model in listed if len(model) <= MAX_MODEL and model.isprintable())
            self._listed.append(tuple(islice(short, MAX_LISTED)))
        return self._listed[0]

    def _offer(self, model: str) -> ModelOffer:
        if model not in self._models:
            self._models[model] = ModelOffer.of(livepeer_pb2.OrchestratorInfo.FromString(self.raw), model)
        return self._models[model]


class ModelOffer(NamedTuple):
    """What an orchestrator says of one model for live video to video."""

    offered: bool
    warm: bool
    room: int
    named: bool = False

    @classmethod
    def of(cls, info: livepeer_pb2.OrchestratorInfo, model: str) -> ModelOffer:
        if not info.HasField("capabilities"):
            return cls(offered=True, warm=False, room=0)
        stated = info.capabilities
        models = _models(info)
        warm = model in models and models[model].warm
        room = models[model].capacity if model in models else 0
        served = LIVE_VIDEO_TO_VIDEO in stated.capacities or _has_bit(stated.bitstring, LIVE_VIDEO_TO_VIDEO)
        return cls(served and (not models or model in models), warm, room, named=model in models)


def _models(info: livepeer_pb2.OrchestratorInfo) -> Mapping[str, Any]:
    """What it says of each model for live video to video."""
    constraints = info.capabilities.constraints.PerCapability
    return constraints[LIVE_VIDEO_TO_VIDEO].models if LIVE_VIDEO_TO_VIDEO in constraints else {}


@lru_cache(maxsize=1024)
def _checksummed(address: bytes) -> str:
    """With its checksum; cached, since all candidates are looked at for each stream."""
    return checksummed(address)


def _check_ticket_params(params: livepeer_pb2.TicketParams) -> None:
    """Raise ValueError where a number does not fit the contract's type: before it becomes an integer."""
    for name, size in (("recipient", ADDRESS_BYTES), ("recipient_rand_hash", HASH_BYTES)):
        given = len(getattr(params, name))
        if given != size:
            raise ValueError(f"its ticket params have a {name} of {given} bytes, not {size}")
    for name in ("face_value", "win_prob", "seed", "expiration_block"):
        given = len(getattr(params, name))
        if given > NUMBER_BYTES:
            raise ValueError(f"its ticket params have a {name} of {given} bytes, more than {NUMBER_BYTES}")
    given = len(params.expiration_params.creation_round_block_hash)
    if given not in (0, HASH_BYTES):
        raise ValueError(f"its ticket params have a block hash of {given} bytes, not {HASH_BYTES}")


def _has_bit(bitstring: Sequence[int], bit: int) -> bool:
    """Whether a bit is set in a string of 64-bit words, the lowest first."""
    word, offset = divmod(bit, 64)
    return word < len(bitstring) and bool(bitstring[word] >> offset & 1)
