"""Short-lived tokens for single streams: JSON Web Tokens (RFC 7519), the gateway's own and other issuers'.

A token holds all that it allows, so every node of a cluster can check it. It is signed and not encrypted:
whoever has it can read it.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jwt

from gateway.http.jwks import KeySet
from gateway.http.limit_words import AMOUNTS, COUNTS, limits_of
from gateway.http.route import Token
from gateway.http.tokens import Grant
from gateway.outputs.recorder import RecordOf
from gateway.payments.customer import MAX_NAME, Customer
from gateway.payments.spending import NO_LIMITS, StreamLimits
from gateway.stream.params import json_size

ISSUER = "livepeer-gateway"
"""Of the gateway's own tokens."""
SYMMETRIC = "HS256"
"""With the gateway's secret."""
KEY_ALGORITHMS = frozenset(
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
)
"""With keys of -jwtJwksUrl: none for which a public key would be the secret."""
LEEWAY = 10
"""Seconds by which clocks may differ."""
MAX_PARAMS = 4096
"""Bytes of a token's parameters as JSON: a header has 8 KiB for all of it."""
MAX_TOKEN = 8000
"""Characters of a token that is made here."""
MAX_STREAMS = 100
MAX_TEXT = 1024

Json = dict[str, Any]


class BadJwt(Exception):
    """A token that opens nothing; the text says why and has nothing of it."""


@dataclass(frozen=True)
class StreamToken:
    """What a token says of the streams that it opens."""

    streams: tuple[str, ...]
    """Shell patterns of their names."""
    customer: str | None = None
    models: tuple[str, ...] = ()
    params: Json | None = None
    limits: Mapping[str, str | int] | None = None
    """Words of limit_words.py."""
    via: str = ""
    """The id of the token of -apiTokens that made it, whose line goes with it."""
    subject: str = ""
    outputs: bool = False
    """Whether its publisher may send the stream on to other servers."""
    record: RecordOf | None = None
    """What of the stream is recorded; None: as for all."""

    def claims(self) -> Json:
        told: Json = {"streams": list(self.streams), "customer": self.customer, "pipeline": list(self.models)}
        told |= {"params": self.params, "limits": None if self.limits is None else dict(self.limits)}
        told |= {"via": self.via, "sub": self.subject, "outputs": self.outputs or None, "record": self.record}
        return {name: value for name, value in told.items() if value not in (None, "", [], {})}

    @classmethod
    def parse(cls, claims: Mapping[str, Any]) -> StreamToken:
        """Raises BadJwt."""
        params, limits = claims.get("params"), claims.get("limits")
        if params is not None and not isinstance(params, dict):
            raise BadJwt("its params are no JSON object")
        if params and json_size(params) > MAX_PARAMS:
            raise BadJwt(f"its params have more than {MAX_PARAMS} bytes as JSON")
        if limits is not None and not isinstance(limits, dict):
            raise BadJwt("its limits are no JSON object")
        outputs, record = claims.get("outputs", False), claims.get("record")
        if not isinstance(outputs, bool):
            raise BadJwt("its outputs is neither true nor false")
        if record is not None and (not isinstance(record, str) or record not in tuple(RecordOf)):
            raise BadJwt(f"its record is none of {', '.join(RecordOf)}")
        streams = _texts(claims, "streams")
        if not streams:
            raise BadJwt("its streams name none")
        return cls(
            streams=streams,
            customer=_text(claims, "customer", MAX_NAME) or None,
            models=_texts(claims, "pipeline"),
            params=params or None,
            limits=limits or None,
            via=_text(claims, "via", MAX_TEXT),
            subject=_text(claims, "sub", MAX_TEXT),
            outputs=outputs,
            record=None if record is None else RecordOf(record),
        )

    def stream_limits(self) -> StreamLimits:
        """Raises BadJwt."""
        try:
            return read_limits(self.limits or {})
        except ValueError as error:
            raise BadJwt(str(error)) from error

    def grant(self, issuer: str) -> Grant:
        """What a token of another issuer allows by itself. Raises BadJwt."""
        who = hashlib.sha256(f"{issuer}\n{self.subject}".encode()).hexdigest()[:12]
        return Grant(
            id=who,
            streams=self.streams,
            limits=self.stream_limits(),
            customer=Customer(self.customer or ""),
            models=self.models,
            params=self.params,
            named=None if self.customer is None else f"customer {self.customer}",
            may_output=self.outputs,
            record=self.record,
        )

    def granted_by(self, maker: Grant) -> Grant:
        """What one allows that was made with a token of -apiTokens, whose bounds hold too. Raises BadJwt.

        Outputs and recording are as that one's line says.
        """
        return replace(
            maker,
            streams=self.streams,
            within=maker.streams,
            limits=maker.limits.lowered_by(self.stream_limits()),
            customer=maker.customer.named(self.customer),
            models=self.models or maker.models,
            params=self.params,
            may_choose=False,
        )


def read_limits(words: Mapping[str, Any]) -> StreamLimits:
    """The limits that JSON sets: amounts as texts, counts as numbers. Raises ValueError with a sentence."""
    unknown = sorted(set(words) - {*AMOUNTS, *COUNTS})
    if unknown:
        raise ValueError(f"limits has {unknown[0][:40]!r}: it takes {', '.join([*AMOUNTS, *COUNTS])}")
    amounts = {name: value for name, value in words.items() if name in AMOUNTS}
    counts = {name: value for name, value in words.items() if name in COUNTS}
    for name, amount in amounts.items():
        if not isinstance(amount, str):
            raise ValueError(f'{name} is not a text such as "0.1ETH"')
    for name, count in counts.items():
        if type(count) is not int:
            raise ValueError(f"{name} is not a whole number")
    return limits_of(amounts, counts) if words else NO_LIMITS


class JwtTokens:
    """Makes and checks tokens.

    `secret` signs the gateway's own, and others' with HS256; `keys` check those of another issuer, which is
    `issuer` where that is given. `audience` has to be among a token's. `maker` gives what the token of
    -apiTokens with an id allows, as its line is now. `wall` gives Unix seconds.
    """

    def __init__(
        self,
        *,
        secret: bytes | None,
        keys: KeySet | None = None,
        audience: str,
        issuer: str | None = None,
        maker: Callable[[str], Grant | None] = lambda _: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._secret = secret
        self._keys = keys
        self._audience = audience
        self._issuer = issuer
        self._maker = maker
        self._wall = wall

    def make(self, token: StreamToken, scope: Token, *, issued: int, expires: int, token_id: str = "") -> str:
        """A token of the gateway's own; times are Unix seconds. The same input gives the same token."""
        assert self._secret is not None
        registered = {"iss": ISSUER, "aud": self._audience, "iat": issued, "exp": expires}
        registered |= {"jti": token_id or secrets.token_hex(8), "scope": str(scope)}
        return jwt.encode({**registered, **token.claims()}, self._secret, SYMMETRIC)

    async def grant(self, token: str, scope: Token) -> Grant:
        """What a token allows for requests of this kind. Raises BadJwt or KeysUnreachable."""
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.InvalidTokenError, UnicodeEncodeError):  # a header may have any byte
            raise BadJwt("it is no JSON Web Token") from None
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str):
            raise BadJwt("its header names no algorithm")
        own = algorithm == SYMMETRIC
        key: Any = None
        if own:
            key = self._secret
        elif algorithm in KEY_ALGORITHMS and self._keys is not None and isinstance(kid, str | None):
            key = await self._keys.find(kid, algorithm)
        if key is None:
            raise BadJwt("it is signed with no key that is known here")
        claims = self._verified(token, key, algorithm)
        if str(scope) not in _scopes(claims):
            raise BadJwt(f"it is not for this: its scope has no {str(scope)!r}")
        said = StreamToken.parse(claims)
        if not (own and said.via):
            return said.grant(_text(claims, "iss", MAX_TEXT))
        maker = self._maker(said.via)
        if maker is None:
            raise BadJwt("the token of -apiTokens that it was made with is gone")
        return said.granted_by(maker)

    def _verified(self, token: str, key: Any, algorithm: str) -> Json:
        issuer = None if algorithm == SYMMETRIC else self._issuer
        try:
            # its times are checked below, by a clock that is given
            claims: Json = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=issuer,
                options={
                    "require": ["exp", "aud", *(["iss"] if issuer else [])],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.PyJWTError as error:
            raise BadJwt(f"it is not valid: {error}"[:200]) from None
        now, expires, begins = self._wall(), claims["exp"], claims.get("nbf", 0)
        if not _is_time(expires) or not _is_time(begins):
            raise BadJwt("its exp or nbf is no time")
        if now >= expires + LEEWAY:
            raise BadJwt("it has expired: ask whoever made it for another")
        if now < begins - LEEWAY:
            raise BadJwt("it is not valid yet")
        return claims


def _scopes(claims: Mapping[str, Any]) -> list[str]:
    return _text(claims, "scope", MAX_TEXT).split()


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53


def _text(claims: Mapping[str, Any], name: str, most: int) -> str:
    value = claims.get(name, "")
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        raise BadJwt(f"its {name} is no text of up to {most} characters")
    return value


def _texts(claims: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = claims.get(name, [])
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or len(texts) > MAX_STREAMS:
        raise BadJwt(f"its {name} is no list of up to {MAX_STREAMS} texts")
    if not all(isinstance(one, str) and 0 < len(one) <= MAX_TEXT for one in texts):
        raise BadJwt(f"its {name} is no list of texts")
    return tuple(texts)
