"""An asyncio client for Livepeer's remote signer.

A first payment, and the one that follows it:

    from signer_client import SignerClient, parse_headers

    async def pay(url: str, orchestrator_info: bytes) -> None:
        async with SignerClient(url, headers=parse_headers("Authorization:Bearer abc")) as signer:
            print("paying as", (await signer.sign_orchestrator_info()).address)
            first = await signer.generate_live_payment(orchestrator=orchestrator_info, state=None)
            # start a job with first.payment and first.seg_creds as headers; its answer has the manifest id
            await signer.generate_live_payment(
                orchestrator=orchestrator_info, state=first.state, manifest_id="5fa1b2c3"
            )

Each error status has its own exception, see `signer_client.errors`. README.md explains the state.
"""

from signer_client.client import SignerClient, parse_headers
from signer_client.errors import (
    BadRequest,
    NoTicketsNeeded,
    PriceExceeded,
    RefreshNeeded,
    Rejected,
    SignerBadAnswer,
    SignerError,
    SignerStatusError,
    SignerUnavailable,
    SignerUnreachable,
)
from signer_client.types import (
    DiscoveredOrchestrator,
    LivePayment,
    MaxPrice,
    PaymentType,
    SignerIdentity,
    SignerState,
)

__all__ = [
    "BadRequest",
    "DiscoveredOrchestrator",
    "LivePayment",
    "MaxPrice",
    "NoTicketsNeeded",
    "PaymentType",
    "PriceExceeded",
    "RefreshNeeded",
    "Rejected",
    "SignerBadAnswer",
    "SignerClient",
    "SignerError",
    "SignerIdentity",
    "SignerState",
    "SignerStatusError",
    "SignerUnavailable",
    "SignerUnreachable",
    "parse_headers",
]
