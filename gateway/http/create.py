"""Creating a stream: its URLs, and short-lived tokens that open it and nothing else."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from gateway.http.access import GRANT, refuse_unless_allowed
from gateway.http.bodies import read_json_object
from gateway.http.jwt_tokens import (
    LEEWAY,
    MAX_PARAMS,
    MAX_TOKEN,
    BadJwt,
    JwtTokens,
    StreamToken,
    read_limits,
)
from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import JSON, Route, Token
from gateway.http.schemas import CREATED
from gateway.http.sessions import PREFIX, Links, checked
from gateway.http.tokens import Grant
from gateway.payments.created_streams import (
    CreatedStream,
    CreatedStreams,
    CreationRefused,
    KeyUsed,
    NameInUse,
)
from gateway.payments.customer import MAX_NAME
from gateway.payments.errors import LedgerError
from gateway.stream.names import BadName, check_name
from gateway.stream.params import json_size
from gateway.stream.registry import StreamRegistry
from gateway.stream.seam import PublishRequest
from gateway.stream.status import rfc3339

FIELDS = ("name", "pipeline", "params", "limits", "expiresIn", "customer")
USUAL_LIFE = 3600
LONGEST_LIFE = 24 * 3600
"""Seconds for which tokens are good, where the request does not say, and at most."""
MAX_PIPELINE = 200
RETRY_AFTER = 10
_KEY = re.compile(r"[!-~]{1,255}")


class CreateRoutes:
    """`POST /live/video-to-video`, for tokens of -apiTokens."""

    def __init__(
        self, registry: StreamRegistry, links: Links, created: CreatedStreams, tokens: JwtTokens
    ) -> None:
        self._registry = registry
        self._links = links
        self._created = created
        self._tokens = tokens

    def routes(self) -> list[Route]:
        return [
            Route(
                "POST",
                PREFIX,
                self.create,
                "create a stream: its URLs, and short-lived tokens to publish and to watch it",
                {
                    201: "the stream; the same again for the same Idempotency-Key and body",
                    400: "a field that cannot be read",
                    408: "the body took too long",
                    409: "the name is another's",
                    413: "the body, its params, or the tokens would be too large",
                    422: "the Idempotency-Key was sent with another body",
                    429: "as many streams were created with this token as may be",
                    503: "the ledger cannot be written",
                },
                takes=JSON,
                schema=CREATED,
                token=Token.API,
            )
        ]

    async def create(self, request: web.Request) -> web.Response:
        grant = request[GRANT]
        body = await read_json_object(request)
        key = _key(request)
        unknown = sorted(set(body) - set(FIELDS))
        if unknown:
            raise _bad(f"{unknown[0][:40]!r} is no field: {', '.join(FIELDS)} are")
        name = self._name(body, grant, key)
        customer = _customer(body, grant)
        live = self._registry.find(name)
        if live is not None and not _is_own(live.request, grant, customer):
            raise Problem(
                409, ProblemCode.NAME_TAKEN, f"{name!r} is being published by another: choose another"
            )
        now = self._created.now
        expires = now + _life(body)
        token_id = secrets.token_hex(8)
        asked = _asked(body, name, customer, grant)
        wanted = CreatedStream(
            name=name,
            owner=grant.id,
            customer=grant.customer.named(customer).name,
            digest=hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest(),
            token_id=token_id,
            created=now,
            expires=expires,
            reserved_until=expires + LEEWAY,
            key=key,
            asked=json.dumps(asked.claims()),
        )
        if len(self._token(asked, wanted, Token.PUBLISH)) > MAX_TOKEN:
            detail = f"its tokens would have more than {MAX_TOKEN} characters: leave out some of params"
            raise Problem(413, ProblemCode.TOO_LARGE, detail)
        try:
            stream = await self._created.create(wanted)
        except CreationRefused as error:
            raise _refused(error) from error
        except LedgerError as error:
            retry = {"Retry-After": str(RETRY_AFTER)}
            raise Problem(503, ProblemCode.LEDGER_UNAVAILABLE, str(error), headers=retry) from error
        return self._answer(request, stream)

    def _name(self, body: Mapping[str, Any], grant: Grant, key: str) -> str:
        name = _text(body, "name", 128)
        if name is None:
            # a repeated request gets the same name, at whichever node
            made = hmac.digest(grant.id.encode(), key.encode(), "sha256") if key else secrets.token_bytes(16)
            return _made_name(grant, made.hex()[:24])
        name = checked(name)
        refuse_unless_allowed(grant, name)
        return name

    def _token(self, token: StreamToken, stream: CreatedStream, scope: Token) -> str:
        return self._tokens.make(
            token,
            scope,
            issued=stream.created,
            expires=stream.expires,
            token_id=f"{stream.token_id}-{scope}",
        )

    def _answer(self, request: web.Request, stream: CreatedStream) -> web.Response:
        token = StreamToken.parse(json.loads(stream.asked))
        url = self._links.forwarding.url
        status_url = url(request, f"{PREFIX}/{stream.name}/status")
        made = {scope: self._token(token, stream, scope) for scope in (Token.PUBLISH, Token.PLAY)}
        answer = {
            "name": stream.name,
            "customer": stream.customer or None,
            "whip_url": url(request, f"{PREFIX}/{stream.name}/whip"),
            "whep_url": url(request, f"{PREFIX}/{stream.name}/whep"),
            "status_url": status_url,
            "events_url": url(request, f"{PREFIX}/{stream.name}/events"),
            "publish_token": made[Token.PUBLISH],
            "play_token": made[Token.PLAY],
            "expires_at": rfc3339(datetime.fromtimestamp(stream.expires, UTC)),
        }
        headers = {"Location": status_url, "Cache-Control": "no-store"}
        return web.json_response(answer, status=201, headers=headers)


def _made_name(grant: Grant, digits: str) -> str:
    """A new name that the token allows. Raises Problem where its patterns have no place for one."""
    for pattern in ("s-*", *grant.streams):
        name = pattern.replace("*", digits, 1)
        with suppress(BadName):
            if name != pattern and grant.allows(check_name(name)):
                return name
    raise _bad("this token's streams have no pattern such as shop-* for a new name: send a name")


def _asked(body: Mapping[str, Any], name: str, customer: str | None, grant: Grant) -> StreamToken:
    """What the tokens say. Raises Problem."""
    params, limits = body.get("params"), body.get("limits")
    if params is not None and not isinstance(params, dict):
        raise _bad("params takes a JSON object")
    if params and json_size(params) > MAX_PARAMS:
        detail = f"params may have {MAX_PARAMS} bytes as JSON here: send larger ones with the publish"
        raise Problem(413, ProblemCode.TOO_LARGE, detail)
    if limits is not None and not isinstance(limits, dict):
        raise _bad("limits takes a JSON object")
    pipeline = _text(body, "pipeline", MAX_PIPELINE)
    if pipeline is not None and grant.models and pipeline not in grant.models:
        detail = f"this token is for {', '.join(grant.models)}: leave pipeline out, or name one of them"
        raise Problem(403, ProblemCode.FORBIDDEN, detail)
    try:
        read_limits(limits or {})
        return StreamToken.parse(
            StreamToken(
                streams=(name,),
                customer=customer,
                models=() if pipeline is None else (pipeline,),
                params=params,
                limits=limits,
                via=grant.id,
            ).claims()
        )
    except (BadJwt, ValueError) as error:
        raise _bad(str(error)) from error


def _customer(body: Mapping[str, Any], grant: Grant) -> str | None:
    customer = _text(body, "customer", MAX_NAME)
    if customer is not None and grant.customer.name and customer != grant.customer.name:
        detail = "this token is one customer's own: leave customer out"
        raise Problem(403, ProblemCode.FORBIDDEN, detail)
    return customer


def _is_own(live: PublishRequest, grant: Grant, customer: str | None) -> bool:
    whose = grant.customer.named(customer).name
    return live.publisher == grant.publisher and live.customer.name == whose


def _life(body: Mapping[str, Any]) -> int:
    life = body.get("expiresIn", USUAL_LIFE)
    if type(life) is not int or not 1 <= life <= LONGEST_LIFE:
        raise _bad(f"expiresIn takes a whole number of seconds from 1 to {LONGEST_LIFE}")
    return life


def _key(request: web.Request) -> str:
    key = request.headers.get("Idempotency-Key", "")
    if key and not _KEY.fullmatch(key):
        raise _bad("Idempotency-Key takes up to 255 letters, digits and marks")
    return key


def _text(body: Mapping[str, Any], name: str, most: int) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
        raise _bad(f"{name} takes a text of up to {most} characters")
    return value


def _refused(error: CreationRefused) -> Problem:
    if isinstance(error, KeyUsed):
        return Problem(422, ProblemCode.KEY_USED, str(error))
    if isinstance(error, NameInUse):
        return Problem(409, ProblemCode.NAME_TAKEN, str(error))
    return Problem(429, ProblemCode.LIMIT_REACHED, str(error), headers={"Retry-After": "60"}, limit="streams")


def _bad(detail: str) -> Problem:
    return Problem(400, ProblemCode.BAD_PARAMETER, detail)
