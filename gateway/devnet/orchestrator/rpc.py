"""The gRPC service `net.Orchestrator`."""

from __future__ import annotations

from fractions import Fraction
from itertools import cycle
from typing import TYPE_CHECKING

from eth_hash.auto import keccak
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from gateway.devnet.account import Account
from gateway.devnet.orchestrator.conduct import HONEST, Conduct
from gateway.devnet.orchestrator.offer import Capacity, Offer, Tariff
from gateway.eth_address import checksummed
from gateway.orchestrator.livepeer_pb2 import OrchestratorInfo, OrchestratorRequest, PingPong
from gateway.payments.ticket import recover

if TYPE_CHECKING:
    from grpclib.server import Stream

CAPPED = "OrchestratorCapped"


class OrchestratorService:
    """Errors have the status UNKNOWN, as in go-livepeer: only their texts differ."""

    def __init__(
        self, account: Account, offer: Offer, tariff: Tariff, capacity: Capacity, conduct: Conduct = HONEST
    ) -> None:
        self._account = account
        self._offer = offer
        self._tariff = tariff
        self._capacity = capacity
        self._price_factors = cycle((conduct.listed_price, Fraction(1)))

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/net.Orchestrator/GetOrchestrator": Handler(
                self._get_orchestrator, Cardinality.UNARY_UNARY, OrchestratorRequest, OrchestratorInfo
            ),
            "/net.Orchestrator/Ping": Handler(self._ping, Cardinality.UNARY_UNARY, PingPong, PingPong),
        }

    async def _get_orchestrator(self, stream: Stream[OrchestratorRequest, OrchestratorInfo]) -> None:
        request = await stream.recv_message()
        if request is None:
            raise GRPCError(Status.UNKNOWN, "the request is missing")
        if self._tariff.price is not None and not _signed(request):
            raise _invalid("orchestrator req sig check failed")
        wanted = request.capabilities if request.HasField("capabilities") else None
        model = None if wanted is None else self._offer.named_model(wanted)
        if model is not None and not self._capacity.left(model) and not request.ignoreCapacityCheck:
            raise _invalid(CAPPED)
        price = self._offer.price(wanted)
        if price is not None:
            price *= next(self._price_factors)
        await stream.send_message(self._offer.info(request.address, wanted, price=price))

    async def _ping(self, stream: Stream[PingPong, PingPong]) -> None:
        request = await stream.recv_message()
        if request is None:
            raise GRPCError(Status.UNKNOWN, "the ping is missing")
        await stream.send_message(PingPong(value=self._account.sign(keccak(request.value))))


def _invalid(why: str) -> GRPCError:
    return GRPCError(Status.UNKNOWN, f"Invalid orchestrator request: {why}")


def _signed(request: OrchestratorRequest) -> bool:
    if len(request.address) != 20:
        return False
    message = keccak(checksummed(request.address).encode())
    try:
        return recover(message, request.sig) == request.address
    except ValueError:
        return False
