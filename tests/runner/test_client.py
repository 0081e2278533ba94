"""The client against an orchestrator and a signer that speak as the real ones do, in both dialects."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from aiohttp import web

from gateway.aio.inside import Reach
from gateway.orchestrator.errors import AlreadySeen, NoCapacity, Refused, UnknownOutcome, Unreachable
from gateway.orchestrator.info import PriceUnit
from gateway.runner.client import RunnerClient
from gateway.runner.errors import NoSuchSession, SessionTaken
from gateway.runner.offer import RunnerOffer, Unit
from gateway.runner.payee import SessionPayee
from gateway.runner.reserve import Challenge, RunnerSession
from harness.payment_models import orchestrator_info
from harness.serving import serving
from signer_client import LivePayment, MaxPrice, SignerClient
from tests.devnet.live_kit import APP, WEI_PER_SECOND, Live


async def offered(client: RunnerClient, network: Live) -> RunnerOffer:
    await network.register()
    (offer,) = await client.discover(f"{network.url}/discovery", network.url)
    return offer


async def asked(client: RunnerClient, offer: RunnerOffer) -> Challenge:
    challenge = await client.ask(offer, PriceUnit.SECONDS)
    assert isinstance(challenge, Challenge)
    return challenge


async def signed(network: Live, challenge: Challenge, former: LivePayment | None = None) -> LivePayment:
    async with SignerClient(network.signer.url) as signer:
        return await signer.generate_live_payment(
            orchestrator=challenge.info.raw,
            state=None if former is None else former.state,
            manifest_id=challenge.manifest_id,
            payment_type="live",
            max_price=MaxPrice.of(Fraction(WEI_PER_SECOND), "live"),
            app=APP,
        )


async def reserved(
    client: RunnerClient, offer: RunnerOffer, challenge: Challenge, payment: LivePayment
) -> RunnerSession:
    return await client.reserve(offer, challenge, payment=payment.payment, seg_creds=payment.seg_creds)


@pytest.mark.asyncio
async def test_a_session_is_offered_challenged_reserved_paid_and_stopped(
    client: RunnerClient, network: Live
) -> None:
    offer = await offered(client, network)
    assert (offer.app, offer.unit, offer.price) == (APP, Unit.SECONDS, WEI_PER_SECOND)
    challenge = await asked(client, offer)
    assert challenge.info.price == WEI_PER_SECOND
    first = await signed(network, challenge)
    session = await reserved(client, offer, challenge, first)
    assert session.id == challenge.manifest_id
    assert RunnerSession.of_former_answer(offer.url, session.id) == session
    later = await signed(network, challenge, former=first)
    newer = await client.pay(
        challenge.payment_url, challenge.info, payment=later.payment, seg_creds=later.seg_creds
    )
    assert newer is not None
    assert (await client.refresh(challenge.info, challenge.manifest_id)).price == WEI_PER_SECOND
    assert await client.stop(session.control_url, offer.reach)
    last = await signed(network, challenge, former=later)
    with pytest.raises(NoSuchSession):
        await client.pay(
            challenge.payment_url, challenge.info, payment=last.payment, seg_creds=last.seg_creds
        )
    assert await client.stop(session.control_url, offer.reach)  # it is over already


@pytest.mark.asyncio
async def test_who_is_full_takes_no_ticket_and_the_same_payment_serves_later(
    client: RunnerClient, network: Live
) -> None:
    offer = await offered(client, network)
    mine, theirs = await asked(client, offer), await asked(client, offer)
    payment = await signed(network, mine)
    other = await reserved(client, offer, theirs, await signed(network, theirs))
    with pytest.raises((NoCapacity, SessionTaken)):
        await reserved(client, offer, mine, payment)
    await client.stop(other.control_url, offer.reach)
    assert (await reserved(client, offer, mine, payment)).id == mine.manifest_id


@pytest.mark.asyncio
async def test_a_payment_that_was_credited_unheard_counts_as_credited_when_it_comes_again(
    client: RunnerClient, network: Live
) -> None:
    offer = await offered(client, network)
    challenge = await asked(client, offer)
    first = await signed(network, challenge)
    await reserved(client, offer, challenge, first)
    later = await signed(network, challenge, former=first)
    headers = {"payment": later.payment, "seg_creds": later.seg_creds}
    payee = SessionPayee(client, offer, challenge)
    await payee.deliver_payment(challenge.info, **headers)
    payee.answer_lost(later.payment)
    with pytest.raises(AlreadySeen):
        await payee.deliver_payment(challenge.info, **headers)
    other = SessionPayee(client, offer, challenge)
    with pytest.raises((AlreadySeen, Refused)):
        await other.deliver_payment(challenge.info, **headers)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "body", "credited"),
    [
        (400, {"error": "chain"}, Refused),
        (500, {"error": "store"}, Refused),
        (503, {"error": "server busy"}, Refused),
        (500, None, AlreadySeen),
        (503, None, AlreadySeen),
        (502, {"error": "a proxy"}, AlreadySeen),
    ],
)
async def test_a_403_after_an_answer_that_took_nothing_is_no_credit(
    status: int, body: object, credited: type[Exception]
) -> None:
    """livepeer/node says in JSON that it took nothing; what a proxy or go-livepeer says tells nothing."""
    answers = [web.Response(text="forbidden", status=403)]
    answers.append(
        web.Response(text="trouble", status=status)
        if body is None
        else web.json_response(body, status=status)
    )

    async def answer(request: web.Request) -> web.Response:
        return answers.pop()

    info, client = replace(orchestrator_info(), reach=Reach("127.0.0.1")), RunnerClient(sender="0x00")
    async with serving(web.post("/payment", answer)) as url:
        offer = RunnerOffer(url=url, app=APP, reach=info.reach)
        payee = SessionPayee(client, offer, Challenge(info, "m", f"{url}/payment"))
        with pytest.raises(Unreachable if credited is Refused else UnknownOutcome):
            await payee.deliver_payment(info, payment="x", seg_creds="y")
        with pytest.raises(credited):
            await payee.deliver_payment(info, payment="x", seg_creds="y")
    await client.close()


@pytest.mark.asyncio
async def test_words_and_urls_of_sessions_stand_in_no_error(client: RunnerClient, network: Live) -> None:
    offer = await offered(client, network)
    challenge = await asked(client, offer)
    await network.orchestrator.stop()
    with pytest.raises(Unreachable) as error:
        await client.pay(challenge.payment_url, challenge.info, payment="x", seg_creds="y")
    assert challenge.manifest_id not in error.value.full
    assert challenge.manifest_id not in repr(challenge)
