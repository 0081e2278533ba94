"""Tokens of single streams: they open what they say, and nothing that was changed opens anything."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from gateway.http.jwks import RETRY, KeySet, KeysUnreachable, read_keys
from gateway.http.jwt_tokens import LEEWAY, BadJwt, JwtTokens, StreamToken
from gateway.http.route import Token
from gateway.http.tokens import Grant
from gateway.outputs.recorder import RecordOf
from gateway.payments.customer import Customer
from gateway.payments.spending import StreamLimits
from harness.serving import serving

SECRET = b"0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000
MAKER = Grant(
    id="abc",
    streams=("cam-*",),
    max_streams=3,
    limits=StreamLimits(wei=1000, seconds=60),
    may_choose=True,
    customer=Customer("shop", {"X-Key": "k"}, Fraction(2)),
)

names = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=20)
stream_tokens = st.builds(
    StreamToken,
    streams=st.lists(names, min_size=1, max_size=3).map(tuple),
    customer=st.none() | texts,
    models=st.lists(names, max_size=2).map(tuple),
    params=st.none() | st.dictionaries(texts, st.integers(), min_size=1, max_size=3),
    limits=st.none() | st.just({"maxSessionSpend": "0.5gwei", "maxStreamSeconds": 9}),
    via=st.just("") | names,
    subject=st.just("") | texts,
    outputs=st.booleans(),
    record=st.none() | st.sampled_from(RecordOf),
)


def tokens(**options: Any) -> JwtTokens:
    given_options = {"secret": SECRET, "audience": "here", "wall": lambda: NOW, **options}
    return JwtTokens(**given_options)


def own(token: StreamToken, scope: Token = Token.PUBLISH, **times: int) -> str:
    made = {"issued": NOW, "expires": NOW + 60, **times}
    return tokens().make(token, scope, issued=made["issued"], expires=made["expires"], token_id="t")


@given(stream_tokens)
def test_a_token_says_what_it_was_made_of(token: StreamToken) -> None:
    claims = jwt.decode(own(token), SECRET, ["HS256"], audience="here", options={"verify_iat": False})
    assert StreamToken.parse(claims) == token
    assert own(token) == own(token)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)
                    | st.dictionaries(st.text(), inner)),
       st.sampled_from(["streams", "customer", "pipeline", "params", "limits", "via", "sub", "outputs",
                        "record"]))  # fmt: skip
def test_claims_of_any_kind_are_read_or_refused(value: Any, name: str) -> None:
    try:
        said = StreamToken.parse({"streams": ["cam"], name: value})
        said.grant("issuer")
    except BadJwt:
        pass


@pytest.mark.asyncio
async def test_what_the_api_made_is_within_what_its_token_allows_now() -> None:
    makers = {"abc": MAKER}
    checks = tokens(maker=makers.get)
    said = StreamToken(
        ("cam-1",),
        customer=None,
        models=("m",),
        limits={"maxSessionSpend": "5", "maxStreamSeconds": 90},
        via="abc",
    )
    grant = await checks.grant(own(said), Token.PUBLISH)
    assert [grant.allows(name) for name in ("cam-1", "cam-2", "other")] == [True, False, False]
    assert grant.limits == StreamLimits(wei=5, seconds=60)
    assert (grant.id, grant.max_streams, grant.may_choose, grant.models) == ("abc", 3, False, ("m",))
    assert grant.customer == MAKER.customer
    wide = await checks.grant(own(StreamToken(("*",), via="abc")), Token.PUBLISH)
    assert [wide.allows(name) for name in ("cam-2", "other")] == [True, False]
    makers.clear()
    with pytest.raises(BadJwt, match="gone"):
        await checks.grant(own(said), Token.PUBLISH)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": NOW - LEEWAY}, "expired"),
        ({"exp": True}, "no time"),
        ({"exp": None}, "exp"),
        ({"nbf": NOW + LEEWAY + 1}, "not valid yet"),
        ({"aud": "elsewhere"}, "udience"),
        ({"aud": None}, "aud"),
        ({"scope": "play"}, "scope"),
        ({"scope": None}, "scope"),
        ({"streams": None}, "streams"),
        ({"streams": "x" * 2000}, "streams"),
        ({"params": {"x": "y" * 5000}}, "params"),
        ({"limits": {"maxSessionSpend": 5}}, "maxSessionSpend"),
        ({"limits": {"maxEverything": "5"}}, "maxEverything"),
        ({"customer": 7}, "customer"),
        ({"outputs": "true"}, "outputs"),
        ({"record": "all"}, "record"),
    ],
)
async def test_a_token_that_is_wrong_opens_nothing(claims: Mapping[str, Any], why: str) -> None:
    whole = {"aud": "here", "exp": NOW + 9, "scope": "publish", "streams": ["cam"], **claims}
    token = jwt.encode({name: value for name, value in whole.items() if value is not None}, SECRET, "HS256")
    with pytest.raises(BadJwt, match=why):
        await tokens().grant(token, Token.PUBLISH)


@pytest.mark.asyncio
async def test_a_token_of_others_with_the_secret_counts_for_its_customer_or_subject() -> None:
    said = {"aud": ["other", "here"], "exp": NOW + 9, "scope": "play publish", "streams": ["a-*"]}
    for more, publisher in (({"customer": "ann"}, "customer ann"), ({"sub": "u1", "iss": "me"}, None)):
        grant = await tokens().grant(jwt.encode({**said, **more}, SECRET, "HS256"), Token.PLAY)
        assert grant.allows("a-1")
        assert not grant.allows("b")
        assert grant.publisher == publisher or (publisher is None and grant.publisher.startswith("token "))
        assert grant.customer.signer_headers == {}
        assert (grant.may_output, grant.record) == (False, None)


@pytest.mark.asyncio
async def test_outputs_and_recording_are_as_the_issuer_says_or_as_the_makers_line() -> None:
    said = {"aud": "here", "exp": NOW + 9, "scope": "publish", "streams": ["cam"]}
    said |= {"outputs": True, "record": "both"}
    grant = await tokens().grant(jwt.encode(said, SECRET, "HS256"), Token.PUBLISH)
    assert (grant.may_output, grant.record) == (True, RecordOf.BOTH)
    made = own(StreamToken(("cam-1",), via="abc", outputs=True, record=RecordOf.NONE))
    for maker in (MAKER, replace(MAKER, may_output=True, record=RecordOf.RESULT)):
        grant = await tokens(maker={"abc": maker}.get).grant(made, Token.PUBLISH)
        assert (grant.may_output, grant.record) == (maker.may_output, maker.record)


@given(st.integers(0, 400), st.integers(1, 255))
def test_not_one_changed_character_opens_anything(place: int, change: int) -> None:
    token = own(StreamToken(("cam",)))
    place %= len(token)
    changed = token[:place] + chr(ord(token[place]) ^ change) + token[place + 1 :]

    def parts(one: str) -> list[bytes]:
        try:
            return [base64.urlsafe_b64decode(part + "===") for part in one.split(".")]
        except ValueError:
            return []

    if parts(changed) == parts(token):
        return  # bits that base64 does not use
    with pytest.raises(BadJwt):
        run(tokens().grant(changed, Token.PUBLISH))


def run(coroutine: Any) -> Any:
    """The result of one that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


class Issuer:
    """Serves the public keys of what it signs with."""

    def __init__(self) -> None:
        self.keys: dict[str, EllipticCurvePrivateKey] = {}
        self.reads = 0
        self.broken = False
        self.rotate("k1")

    def rotate(self, kid: str) -> None:
        self.keys = {kid: ec.generate_private_key(ec.SECP256R1())}

    async def handle(self, _: web.Request) -> web.Response:
        self.reads += 1
        if self.broken:
            return web.Response(status=500)
        public = [
            {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": kid} for kid, key in self.keys.items()
        ]
        return web.json_response({"keys": [*public, {"kty": "oct", "k": "AAAA", "kid": "s"}, {"kty": "?"}]})

    def sign(self, kid: str = "k1", **claims: Any) -> str:
        said = {
            "iss": "them",
            "aud": "here",
            "exp": NOW + 9,
            "scope": "publish",
            "streams": ["cam"],
            **claims,
        }
        key = self.keys.get(kid) or ec.generate_private_key(ec.SECP256R1())
        return jwt.encode(said, key, "ES256", headers={"kid": kid})


@pytest.mark.asyncio
async def test_another_issuers_tokens_are_checked_by_its_keys_which_are_read_seldom() -> None:
    issuer, seconds = Issuer(), [0.0]
    async with serving(web.get("/keys", issuer.handle)) as url, aiohttp.ClientSession() as http:
        keys = KeySet(http, f"{url}/keys", clock=lambda: seconds[0])
        checks = tokens(keys=keys, secret=None, issuer="them")
        for _ in range(3):
            assert (await checks.grant(issuer.sign(via="abc"), Token.PUBLISH)).allows("cam")
        assert issuer.reads == 1
        for wrong in (issuer.sign("k2"), issuer.sign(iss="others"), issuer.sign(scope="play")):
            with pytest.raises(BadJwt):
                await checks.grant(wrong, Token.PUBLISH)
        assert issuer.reads == 1
        public = issuer.keys["k1"].public_key()
        header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"k1"}').rstrip(b"=").decode()
        for confused in (jwt.encode({"aud": "here"}, "x" * 32, "HS256"), f"{header}.e30.{'A' * 43}"):
            with pytest.raises(BadJwt, match="no key"):
                await checks.grant(confused, Token.PUBLISH)
        assert public
        issuer.rotate("k2")
        seconds[0] += RETRY
        assert await checks.grant(issuer.sign("k2"), Token.PUBLISH)
        issuer.broken = True
        seconds[0] += 3600
        assert await checks.grant(issuer.sign("k2"), Token.PUBLISH)
        seconds[0] += 24 * 3600
        with pytest.raises(KeysUnreachable):
            await checks.grant(issuer.sign("k2"), Token.PUBLISH)


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, {"keys": [{}] * 101}])
def test_what_is_no_set_of_keys_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="keys"):
        read_keys(document)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "token", ["a.b.c", "..", "e30.e30.", "eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOltdfQ.e30.", "x" * 8000 + ".."]
)
async def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(BadJwt):
        await tokens().grant(token, Token.PUBLISH)


@pytest.mark.asyncio
async def test_a_secret_that_the_library_refuses_opens_nothing() -> None:
    pem = b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"
    with pytest.raises(BadJwt, match="not valid"):
        await tokens(secret=pem).grant(own(StreamToken(("cam",))), Token.PUBLISH)


@pytest.mark.asyncio
@pytest.mark.parametrize("token", ["a.b.\udcff", "\udcff.b.c", "a.\u00e4.c", "..", "\0.\0.\0"])
async def test_a_token_of_other_bytes_is_no_token(token: str) -> None:
    with pytest.raises(BadJwt, match="no JSON Web Token"):
        await tokens().grant(token, Token.PUBLISH)
