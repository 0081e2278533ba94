"""A session on a live runner, as its payments call it."""

from __future__ import annotations

from gateway.orchestrator.errors import AlreadySeen, Refused, UnknownOutcome
from gateway.orchestrator.info import OrchestratorInfo
from gateway.runner.client import RunnerClient
from gateway.runner.errors import NoSuchSession
from gateway.runner.offer import RunnerOffer
from gateway.runner.reserve import Challenge


class SessionPayee:
    """Payments of one session go to its own URL; a 404 there means that it is over."""

    capabilities = b""
    """Signing calls for live runners carry none."""

    def __init__(self, client: RunnerClient, offer: RunnerOffer, challenge: Challenge) -> None:
        self.offer = offer
        self.challenge = challenge
        self.over = False
        """Whether the orchestrator has ended the session."""
        self._client = client
        self._in_doubt = ""
        """The payment whose last delivery was not answered."""

    async def get_info(self, addr: str, *, ignore_capacity: bool = False) -> OrchestratorInfo:
        return await self._refresh()

    async def refresh_payment(
        self, info: OrchestratorInfo, *, sender: str, manifest_id: str
    ) -> OrchestratorInfo:
        return await self._refresh()

    async def deliver_payment(
        self, info: OrchestratorInfo, *, payment: str, seg_creds: str
    ) -> OrchestratorInfo:
        """Deliver; gives `info` itself where the answer has no other params at the session's price.

        The answer to a first payment may show the node's base price instead.
        """
        try:
            newer = await self._client.pay(
                self.challenge.payment_url, info, payment=payment, seg_creds=seg_creds
            )
        except NoSuchSession:
            self.over = True
            raise
        except UnknownOutcome:
            self.answer_lost(payment)
            raise
        except Refused as error:
            if error.status == 403 and payment == self._in_doubt:
                # livepeer/node has no other answer for a payment that it has credited
                raise AlreadySeen(error.detail, said=error.said) from error
            raise
        return newer if newer is not None and newer.price == self.challenge.info.price else info

    def answer_lost(self, payment: str) -> None:
        """This payment may have been credited: no answer came."""
        self._in_doubt = payment

    async def _refresh(self) -> OrchestratorInfo:
        return await self._client.refresh(self.challenge.info, self.challenge.manifest_id)
