"""The signer client against a real HTTP server on loopback."""

from __future__ import annotations

import asyncio
import json
import textwrap
from fractions import Fraction
from typing import Any

import aiohttp
import pytest
from aiohttp import web

import signer_client
from harness.pieces import answering_in_pieces
from signer_client import (
    BadRequest,
    MaxPrice,
    NoTicketsNeeded,
    PriceExceeded,
    RefreshNeeded,
    Rejected,
    SignerBadAnswer,
    SignerClient,
    SignerStatusError,
    SignerUnavailable,
    SignerUnreachable,
    client,
    parse_headers,
)
from tests.signer_client.servers import PAYMENT, STATE, answers, b64, fails, signer


async def pay(it: SignerClient, **options: Any) -> signer_client.LivePayment:
    return await it.generate_live_payment(orchestrator=b"info", state=STATE, manifest_id="m", **options)


@pytest.mark.asyncio
async def test_the_identity_is_asked_with_an_empty_body_and_the_extra_headers() -> None:
    identity = {"address": "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23", "signature": "0x" + "ab" * 65}
    async with signer(answers(identity), headers=parse_headers("Authorization:Bearer a:b, X-Key:1")) as (
        it,
        s,
    ):
        answer = await it.sign_orchestrator_info()
    assert answer.address == identity["address"]
    assert answer.signature == b"\xab" * 65
    (request,) = s.requests
    assert (request.method, request.path) == ("POST", "/sign-orchestrator-info")
    assert (request.headers["Authorization"], request.headers["X-Key"]) == ("Bearer a:b", "1")
    assert s.bodies == [None]


@pytest.mark.asyncio
async def test_every_call_of_a_session_has_the_same_extra_headers() -> None:
    given = parse_headers("Authorization:Bearer customer")
    async with signer(answers([]), answers(PAYMENT), headers=given) as (it, s):
        assert await it.discover_runners(["app"]) == []
        first = await it.generate_live_payment(
            orchestrator=b"info", state=None, manifest_id="m", payment_type="live", app="app"
        )
        await it.generate_live_payment(
            orchestrator=b"info", state=first.state, manifest_id="m", payment_type="live", app="app"
        )
    assert [request.headers["Authorization"] for request in s.requests] == ["Bearer customer"] * 3
    assert [body and body["app"] for body in s.bodies] == [None, "app", "app"]


@pytest.mark.asyncio
async def test_a_null_state_is_left_out_and_the_other_fields_are_the_protocols() -> None:
    async with signer(answers(PAYMENT)) as (it, s):
        first = await it.generate_live_payment(
            orchestrator=b"\xff\x00info",
            state=None,
            capabilities=b"caps",
            max_price=MaxPrice.of(Fraction(976562500, 27)),
            app="app",
        )
        await it.generate_live_payment(
            orchestrator=b"info", state=first.state, manifest_id="m1", capabilities=b"caps"
        )
    assert (first.payment, first.seg_creds, first.payment_bytes) == (
        b64(b"payment"),
        b64(b"creds"),
        b"payment",
    )
    assert s.bodies == [
        {
            "orchestrator": b64(b"\xff\x00info"),
            "type": "lv2v",
            "capabilities": b64(b"caps"),
            "app": "app",
            "maxPrice": {
                "price": "36168981.481481481481481482",
                "currency": "wei",
                "unit": "720p-pixel-seconds",
            },
        },
        {
            "orchestrator": b64(b"info"),
            "type": "lv2v",
            "capabilities": b64(b"caps"),
            "ManifestID": "m1",
            "state": PAYMENT["state"],
        },
    ]


@pytest.mark.asyncio
async def test_field_names_are_matched_without_regard_to_case() -> None:
    state = {"state": b64(b"{}"), "SIG": b64(b"s")}
    async with signer(answers({"Payment": b64(b"p"), "segcreds": b64(b"c"), "STATE": state})) as (it, _):
        answer = await pay(it)
    assert answer.payment_bytes == b"p"
    assert answer.state.signature == b64(b"s")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (480, RefreshNeeded),
        (481, PriceExceeded),
        (482, NoTicketsNeeded),
        *((status, SignerUnavailable) for status in (*range(500, 505), 507, 520, 529, 408, 425, 429)),
        (505, Rejected),
        (401, Rejected),
        (403, Rejected),
        (404, Rejected),
        (483, Rejected),
        (302, Rejected),
    ],
)
async def test_each_status_has_its_exception_with_the_signers_words(
    status: int, kind: type[SignerStatusError]
) -> None:
    async with signer(fails(status, "because")) as (it, _):
        with pytest.raises(kind) as error:
            await pay(it, retries=0)
    assert type(error.value) is kind
    assert (error.value.status, error.value.message) == (status, "because")
    assert "because" in str(error.value)


@pytest.mark.asyncio
async def test_480_names_the_orchestrator() -> None:
    async with signer(fails(480, Livepeer_Orchestrator_URL="https://o:8935")) as (it, _):
        with pytest.raises(RefreshNeeded) as error:
            await pay(it)
    assert error.value.orchestrator_url == "https://o:8935"


@pytest.mark.asyncio
async def test_an_error_that_is_not_json_is_passed_on_and_cut_short() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(status=502, text="<h1>Bad Gateway</h1>" + "x" * 10_000)

    async with signer(page) as (it, _):
        with pytest.raises(SignerUnavailable) as error:
            await pay(it, retries=0)
    assert error.value.message.startswith("<h1>Bad Gateway</h1>")
    assert len(error.value.message) == client.MAX_MESSAGE_CHARS


@pytest.mark.asyncio
async def test_only_failures_that_may_pass_are_tried_again() -> None:
    async with signer(fails(503), fails(500), answers(PAYMENT)) as (it, s):
        assert (await pay(it)).payment_bytes == b"payment"
        assert len(s.requests) == 3
        assert s.bodies[0] == s.bodies[1] == s.bodies[2]
    async with signer(fails(503)) as (it, s):
        with pytest.raises(SignerUnavailable):
            await pay(it, retries=0)
        assert len(s.requests) == 1
    for status in (400, 480, 481, 482, 403):
        async with signer(fails(status), answers(PAYMENT)) as (it, s):
            with pytest.raises(SignerStatusError):
                await pay(it)
            assert len(s.requests) == 1


@pytest.mark.asyncio
async def test_a_connection_cut_in_the_middle_is_tried_again_then_unreachable() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with signer(cut, answers(PAYMENT)) as (it, s):
        assert (await pay(it)).payment_bytes == b"payment"
        assert len(s.requests) == 2
    async with signer(cut) as (it, s):
        with pytest.raises(SignerUnreachable):
            await pay(it)
        assert len(s.requests) == 3


@pytest.mark.asyncio
async def test_an_answer_that_comes_in_pieces_is_read_to_its_end() -> None:
    identity = {"address": "0x" + "ab" * 20, "signature": "0x" + "ab" * 65, "more": "x" * 4000}
    async with answering_in_pieces(json.dumps(identity).encode()) as url, SignerClient(url) as it:
        assert (await it.sign_orchestrator_info()).address == identity["address"]


@pytest.mark.asyncio
async def test_silence_is_unreachable_within_the_time_out() -> None:
    asked = asyncio.Event()

    async def silence(_: web.Request) -> web.StreamResponse:
        asked.set()
        await asyncio.sleep(60)
        raise AssertionError

    async with signer(silence, timeout=0.05, retries=0) as (it, _):
        with pytest.raises(SignerUnreachable, match="no answer in time"):
            await pay(it)
        assert asked.is_set()


@pytest.mark.asyncio
@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nobody.invalid", "http://[", "127.0.0.1:1"])
async def test_a_signer_that_is_not_there_is_unreachable(url: str) -> None:
    async with SignerClient(url, retries=0, timeout=2) as it:
        with pytest.raises(SignerUnreachable):
            await it.sign_orchestrator_info()


@pytest.mark.asyncio
@pytest.mark.parametrize("host", ["127.0.0.1:1", "nobody.invalid"])
async def test_the_error_of_a_signer_that_is_not_there_tells_neither_host_nor_password(host: str) -> None:
    async with SignerClient(f"http://me:pa55word@{host}", retries=0, timeout=2) as it:
        with pytest.raises(SignerUnreachable) as error:
            await it.sign_orchestrator_info()
    said = str(error.value)
    assert said
    assert not any(secret in said for secret in ("me:", "pa55word", host.partition(":")[0]))


def test_a_url_without_a_scheme_means_https() -> None:
    assert SignerClient("signer.example/").url == "https://signer.example"
    assert SignerClient("http://signer.example").url == "http://signer.example"


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in PAYMENT.items() if key != name}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([], "no JSON object"),
        (None, "no JSON object"),
        (_without("payment"), "has no payment"),
        (_without("segCreds"), "has no segCreds"),
        (_without("state"), "has no state"),
        (PAYMENT | {"payment": 7}, "payment is not text"),
        (PAYMENT | {"payment": "?!"}, "payment is not base64"),
        (PAYMENT | {"payment": "ü"}, "payment is not base64"),
        (PAYMENT | {"segCreds": ""}, "segCreds is empty"),
        (PAYMENT | {"state": "text"}, "no JSON object"),
        (PAYMENT | {"state": {"State": b64(b"{}"), "Sig": None}}, "Sig is not text"),
        (PAYMENT | {"payment": "A" * (2 << 20)}, "over"),
    ],
)
async def test_an_answer_that_is_not_the_protocols_is_a_bad_answer(answer: Any, words: str) -> None:
    async with signer(answers(answer)) as (it, s):
        with pytest.raises(SignerBadAnswer, match=words):
            await pay(it)
        assert len(s.requests) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("text", ["not json", "[" * 100_000])
async def test_an_answer_that_is_not_json_is_a_bad_answer(text: str) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(text=text)

    async with signer(handle) as (it, _):
        with pytest.raises(SignerBadAnswer, match="not JSON"):
            await pay(it)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"address": "0x12", "signature": "0x" + "ab" * 65}, "address"),
        ({"address": "0x" + "1" * 40, "signature": "0xzz"}, "not hex"),
        ({"address": "0x" + "1" * 40, "signature": "0xab"}, "1 bytes"),
    ],
)
async def test_an_invalid_identity_is_a_bad_answer(answer: Any, words: str) -> None:
    async with signer(answers(answer)) as (it, _):
        with pytest.raises(SignerBadAnswer, match=words):
            await it.sign_orchestrator_info()


@pytest.mark.asyncio
async def test_discovery_asks_for_each_capability_and_takes_entries_with_less_and_more() -> None:
    found = [
        {"address": "https://a:1", "score": 1.5, "capabilities": ["live-video-to-video/x"], "runners": []},
        {"Address": "https://b:1"},
    ]
    async with signer(answers(found)) as (it, s):
        answer = await it.discover_orchestrators(["live-video-to-video/x", "live-video-to-video/y"])
    assert [(one.address, one.score, one.capabilities) for one in answer] == [
        ("https://a:1", 1.5, ("live-video-to-video/x",)),
        ("https://b:1", None, ()),
    ]
    assert s.requests[0].query.getall("caps") == ["live-video-to-video/x", "live-video-to-video/y"]


@pytest.mark.asyncio
@pytest.mark.parametrize("answer", [{}, [7], [{"score": 1}], [{"address": "a", "score": "high"}]])
async def test_an_invalid_discovery_is_a_bad_answer(answer: Any) -> None:
    async with signer(answers(answer)) as (it, _):
        with pytest.raises(SignerBadAnswer):
            await it.discover_orchestrators(["c"])


@pytest.mark.asyncio
async def test_the_example_in_the_package_docstring_works(capsys: pytest.CaptureFixture[str]) -> None:
    lines = (signer_client.__doc__ or "").splitlines()
    example = textwrap.dedent("\n".join(line for line in lines if line.startswith("    ") or not line))
    names: dict[str, Any] = {}
    exec(example, names)
    identity = {"address": "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23", "signature": "0x" + "ab" * 65}
    async with signer(answers(identity), answers(PAYMENT)) as (it, s):
        await names["pay"](it.url, b"info")
    assert capsys.readouterr().out == f"paying as {identity['address']}\n"
    assert s.bodies[2]["state"] == PAYMENT["state"]


@pytest.mark.asyncio
async def test_a_session_that_was_given_stays_open() -> None:
    async with aiohttp.ClientSession() as session:
        async with signer(answers(PAYMENT), session=session) as (it, _):
            await pay(it)
        assert not session.closed


@pytest.mark.asyncio
async def test_a_redirect_is_not_followed_since_the_headers_are_secrets() -> None:
    async with signer(fails(307, Location="/elsewhere")) as (it, s):
        with pytest.raises(Rejected):
            await pay(it)
        assert len(s.requests) == 1


def test_a_repr_shows_nothing_that_can_be_spent() -> None:
    payment = signer_client.LivePayment(payment="spendable", seg_creds="credentials", state=STATE)
    assert "spendable" not in repr(payment)
    assert "credentials" not in repr(payment)
    assert STATE.state not in repr(payment)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("a:b", {"a": "b"}),
        (" a : b , c:d:e,", {"a": "b", "c": "d:e"}),
        ("Authorization:Bearer x", {"Authorization": "Bearer x"}),
    ],
)
def test_headers_are_read_as_go_writes_them(text: str, expected: dict[str, str]) -> None:
    assert parse_headers(text) == expected


@pytest.mark.parametrize("text", ["secret", "a:b,secret", ":secret"])
def test_a_header_without_a_name_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form") as error:
        parse_headers(text)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("price", "text"),
    [
        (Fraction(1), "1"),
        (Fraction(0), "0"),
        (Fraction(3, 2), "1.5"),
        (Fraction(100), "100"),
        (Fraction(1, 3), "0.333333333333333334"),
    ],
)
def test_a_maximum_price_is_a_decimal_that_is_never_below_the_exact_one(price: Fraction, text: str) -> None:
    assert MaxPrice.of(price).price == text
    assert Fraction(text) >= price
    assert MaxPrice.of(price, "live").unit == "seconds"
