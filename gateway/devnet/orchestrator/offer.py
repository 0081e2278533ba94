"""The OrchestratorInfo that an orchestrator gives: price, ticket params, capabilities, capacity."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from gateway.devnet.account import Account
from gateway.devnet.orchestrator.refusal import AtCapacity
from gateway.devnet.orchestrator.ticket_params import ParamsIssuer
from gateway.devnet.orchestrator.tokens import Tokens
from gateway.money import PIXELS_PER_SECOND, wei_per_pixel
from gateway.orchestrator.capabilities import LIVE_VIDEO_TO_VIDEO, VERSION
from gateway.orchestrator.livepeer_pb2 import AuthToken, Capabilities, OrchestratorInfo, PriceInfo

TRANSCODING_PRICE = Fraction(1200 * PIXELS_PER_SECOND)
"""Wei per second for a request that does not ask for the live-video capability."""

MAX_INT64 = 2**63 - 1


def price_info(price: Fraction) -> PriceInfo:
    """`price` (wei per second) as a reduced fraction per pixel. Raises ValueError where it does not fit."""
    per_pixel = wei_per_pixel(price)
    if per_pixel.numerator < 0 or max(per_pixel.numerator, per_pixel.denominator) > MAX_INT64:
        raise ValueError(f"{price} wei per second does not fit two 64-bit integers")
    return PriceInfo(pricePerUnit=per_pixel.numerator, pixelsPerUnit=per_pixel.denominator)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTerms:
    """One model's price in wei per second, None off-chain, and whether it is loaded."""

    price: Fraction | None
    warm: bool


@dataclass(slots=True)
class Tariff:
    """The settings that may change while an orchestrator runs. `price` in wei per second; None: off-chain.

    `price` and `warm` are the first model's, `capacity` is for each.
    """

    price: Fraction | None
    debit_rate: Fraction
    capacity: int
    warm: bool


TRANSCODING = (*range(13), 14, 26)
"""go-livepeer's default capabilities: gateways ask for them beside live video to video."""
OFFERED = (*TRANSCODING, LIVE_VIDEO_TO_VIDEO)
RUNNER_VERSION = "0.0.0"
NO_ADDRESS = bytes(20)
FIXED_POINT = 1000
"""An adjusted price is a whole number of wei per this many pixels."""


class Capacity:
    """Counts the running streams of each model against the tariff's capacity."""

    def __init__(self, tariff: Tariff) -> None:
        self._tariff = tariff
        self._taken: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Streams of all models."""
        return self._taken.total()

    def taken(self, model: str) -> int:
        return self._taken[model]

    def left(self, model: str) -> int:
        """For how many more streams of the model there is room."""
        return max(0, self._tariff.capacity - self._taken[model])

    def take(self, model: str) -> None:
        """Count one more stream of the model. Raises AtCapacity."""
        if not self.left(model):
            raise AtCapacity("insufficient capacity")
        self._taken[model] += 1

    def free(self, model: str) -> None:
        self._taken[model] -= 1


class Offer:
    """Makes OrchestratorInfo messages for models of live video to video.

    The first has the tariff's price, the others their own.
    """

    def __init__(
        self,
        *,
        model: str,
        pipeline: str,
        tariff: Tariff,
        capacity: Capacity,
        issuer: ParamsIssuer,
        tokens: Tokens,
        address: bytes,
        version: str = VERSION,
        price_overhead: Fraction = Fraction(0),
        others: Mapping[str, ModelTerms] | None = None,
    ) -> None:
        """`address` (20 bytes) is the node's; `price_overhead` is added to the price, 1/100 for 1 %."""
        self._first = model
        self._others = others or {}
        self.pipeline = pipeline
        self.url = ""
        self._tariff = tariff
        self._capacity = capacity
        self._issuer = issuer
        self._tokens = tokens
        self._address = address
        self._version = version
        self._price_overhead = price_overhead

    def move(self) -> None:
        """Take a new address, which is paid too."""
        self._address = self._issuer.recipient = Account(secrets.token_bytes(32)).raw_address

    @property
    def models(self) -> dict[str, ModelTerms]:
        """All models, by their ids."""
        return {self._first: ModelTerms(price=self._tariff.price, warm=self._tariff.warm), **self._others}

    def named_model(self, capabilities: Capabilities) -> str | None:
        """The offered model of live video to video that the constraints name."""
        constraints = capabilities.constraints.PerCapability
        if LIVE_VIDEO_TO_VIDEO not in constraints:
            return None
        wanted = constraints[LIVE_VIDEO_TO_VIDEO].models
        return next((model for model in self.models if model in wanted), None)

    def price(self, capabilities: Capabilities | None) -> Fraction | None:
        """Wei per second for these capabilities; without the capability's capacity, of transcoding."""
        if self._tariff.price is None:
            return None
        model = None
        if capabilities is not None and LIVE_VIDEO_TO_VIDEO in capabilities.capacities:
            model = self.named_model(capabilities)
        price = None if model is None else self.models[model].price
        return self._adjusted(TRANSCODING_PRICE if price is None else price)

    def _adjusted(self, price: Fraction) -> Fraction:
        if not self._price_overhead:
            return price
        per_pixel = wei_per_pixel(price * (1 + self._price_overhead))
        return Fraction(int(per_pixel * FIXED_POINT), FIXED_POINT) * PIXELS_PER_SECOND

    def info(
        self,
        sender: bytes,
        capabilities: Capabilities | None,
        *,
        token: AuthToken | None = None,
        price: Fraction | None = None,
        ticket_factor: int = 1,
    ) -> OrchestratorInfo:
        """The message for `sender` (20 bytes); by default with a new token and at the tariff's price."""
        price = self.price(capabilities) if price is None else price
        token = self._tokens.issue() if token is None else token
        info = self.params(sender, token=token, price=price, ticket_factor=ticket_factor)
        info.capabilities.CopyFrom(self.capabilities())
        if capabilities is None:
            self._describe(info)
        return info

    def params(
        self, sender: bytes, *, token: AuthToken, price: Fraction | None, ticket_factor: int = 1
    ) -> OrchestratorInfo:
        """The message with what a payment needs: ticket params at `price` (wei per second) and the token."""
        info = OrchestratorInfo(transcoder=self.url, address=self._address, auth_token=token)
        if price is None:
            info.address = NO_ADDRESS
        else:
            info.price_info.CopyFrom(price_info(price))
            info.ticket_params.CopyFrom(self._issuer.issue(sender, price, ticket_factor))
        return info

    def _describe(self, info: OrchestratorInfo) -> None:
        """Add what only requests without capabilities get; prices in whole wei per pixel."""
        for model, terms in self.models.items():
            if terms.price is not None:
                info.capabilities_prices.add(
                    pricePerUnit=int(wei_per_pixel(terms.price)),
                    pixelsPerUnit=1,
                    capability=LIVE_VIDEO_TO_VIDEO,
                    constraint=model,
                )
            info.hardware.add(pipeline=self.pipeline, model_id=model)

    def capabilities(self) -> Capabilities:
        """The offered capabilities with capacity and use."""
        own = Capabilities(bitstring=[sum(1 << bit for bit in OFFERED)], version=self._version)
        for capability in OFFERED:
            own.capacities[capability] = 1
        stated = own.constraints.PerCapability[LIVE_VIDEO_TO_VIDEO].models
        for model, terms in self.models.items():
            stated[model].warm = terms.warm
            stated[model].capacity = self._capacity.left(model)
            stated[model].capacityInUse = self._capacity.taken(model)
            stated[model].runnerVersion = RUNNER_VERSION
        return own
