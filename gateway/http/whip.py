"""WHIP (RFC 9725): publishers."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from gateway.candidates.verdict import Verdict
from gateway.flags import BOOLEAN
from gateway.http.access import GRANT, refuse_unless_allowed
from gateway.http.bodies import parse_json_object, read_sdp
from gateway.http.limits import ClientLimits, client_key
from gateway.http.outputs import MAY_NOT_OUTPUT, output_refused
from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import SDP, Route, Token
from gateway.http.sessions import (
    POST_REFUSED,
    PREFIX,
    STREAM,
    Links,
    checked,
    limit_reached,
    not_admitted,
    offer_refused,
    session_routes,
    trickle,
)
from gateway.http.tokens import Grant
from gateway.http.webhook import AuthWebhook, WebhookAnswer
from gateway.outputs.outputs import OutputRefused, Outputs
from gateway.outputs.recorder import RecordOf
from gateway.outputs.target import Target
from gateway.payments.customer import ANYBODY, MAX_NAME, Customer
from gateway.payments.errors import LedgerUnavailable
from gateway.payments.ledger import MAX_PUBLISHER
from gateway.payments.spending import NO_LIMITS, SpendLimitReached, StreamLimits
from gateway.payments.steps import clean
from gateway.reason import EndReason
from gateway.stream.admission import NotAdmitted
from gateway.stream.claims import NameTaken
from gateway.stream.paid_starts import MayNotStart, RefusedBySigner, TooManyStarts
from gateway.stream.quotas import LimitReached
from gateway.stream.registry import NoOrchestrator, StreamRegistry
from gateway.stream.seam import PublishRequest, TooManyModels, UnknownModel
from gateway.stream.status import candidate_json
from gateway.stream.stream import Stream
from gateway.telemetry import tracing
from gateway.telemetry.metrics import Metrics
from gateway.webrtc.errors import OfferRefused

WHIP = STREAM + "/whip"
RETRY_AFTER_NO_ORCHESTRATOR = 10
"""Retry-After of a publisher that no orchestrator can take, in seconds."""
DEFAULT_PIPELINES = frozenset({"", "comfyui", "live-video-to-video"})
"""Pipeline names that mean `-model`."""


class WhipRoutes:
    """Creates, updates and ends publishers' sessions.

    With `everybody_chooses` a publisher may name an orchestrator without a token that allows it.
    """

    def __init__(
        self,
        registry: StreamRegistry,
        metrics: Metrics,
        links: Links,
        limits: ClientLimits,
        *,
        default_model: str,
        standby: bool = False,
        webhook: AuthWebhook | None = None,
        everybody_chooses: bool = False,
        outputs: Outputs | None = None,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._links = links
        self._limits = limits
        self._default_model = default_model
        self._standby = standby
        self._webhook = webhook
        self._everybody_chooses = everybody_chooses
        self._outputs = outputs

    def routes(self) -> list[Route]:
        kinds = " or ".join(self._registry.kinds)
        return [
            Route(
                "POST",
                WHIP,
                self.publish,
                "publish a stream (WHIP, RFC 9725)",
                {
                    201: "the answer, with Location, ETag, Link and Livepeer-Playback-URL",
                    402: "a spend limit of the operator's or of the publisher's is reached",
                    403: "the auth webhook refuses the stream, or the token does not allow it or its outputs",
                    404: "no orchestrator offers the model",
                    409: "the name or id is taken",
                    503: "no orchestrator can take it (the candidates say why), or the gateway drains",
                    **POST_REFUSED,
                },
                takes=SDP,
                gives=SDP,
                token=Token.PUBLISH,
                query={
                    "pipeline": "the pipeline; -model by default",
                    "params": "parameters for the worker, a JSON object",
                    "streamId": "the stream's id; its name by default",
                    "orchestrator": f"use this one: an orchestrator's URL or address, or {kinds}",
                    "rtmpOutput": "send it on to this rtmp://, rtmps:// or srt:// URL; may be repeated",
                    "standby": "true or false: whether to run a second job; -standby by default",
                },
            ),
            *session_routes(
                WHIP,
                Token.PUBLISH,
                "publisher",
                self.trickle,
                self.unpublish,
                {"resume": "false: end the paid job at once; by default it is held for -resumeTimeout"},
            ),
        ]

    async def publish(self, request: web.Request) -> web.Response:
        span = tracing.begin("publish", stream=request.match_info["stream"])
        try:
            with tracing.entered(span):
                response = await self._publish(request)
        except Problem as problem:
            span.end(f"{problem.code}: {problem.detail}")
            self._metrics.starts.labels(problem.code).inc()
            raise
        except BaseException as error:
            span.end(repr(error))
            raise
        self._metrics.starts.labels("accepted").inc()
        return response

    async def _publish(self, request: web.Request) -> web.Response:
        wanted = self._publish_request(request)
        offer = await read_sdp(request)
        decided: WebhookAnswer | None = None
        if self._webhook is not None:
            decided = await self._webhook.ask(self._question(request, wanted))
            wanted = self._with_answer(wanted, decided)
        if decided is None or decided.orchestrator is None:
            self._check_choice(wanted, request.get(GRANT))
        may_output = self._may_output(request.get(GRANT), decided)
        targets = await self._targets(request, decided, may_output)
        client, grant = self._links.forwarding.client(request), request.get(GRANT)
        name = None if decided is None else decided.customer
        customer = _customer(grant, decided)
        wanted = replace(wanted, publisher=_publisher(grant, name, client), customer=customer)
        claims = self._limits.on_stream(client, grant)
        try:
            with tracing.ended_with(tracing.current().child("answer")):
                stream = await self._registry.publish(wanted, offer, claims)
        except NameTaken as error:
            raise Problem(409, ProblemCode.NAME_TAKEN, str(error)) from error
        except LimitReached as error:
            raise limit_reached(error) from error
        except MayNotStart as error:
            raise _may_not_start(error) from error
        except UnknownModel as error:
            offered = ", ".join(error.offered)
            detail = f"{error}; ask for one of: {offered}" if offered else str(error)
            raise Problem(404, ProblemCode.UNKNOWN_MODEL, detail, models=list(error.offered)) from error
        except TooManyModels as error:
            headers = {"Retry-After": str(RETRY_AFTER_NO_ORCHESTRATOR)}
            raise Problem(503, ProblemCode.TOO_MANY_MODELS, str(error), headers=headers) from error
        except NotAdmitted as error:
            raise not_admitted(error) from error
        except NoOrchestrator as error:
            raise _no_orchestrator(error, asked=wanted.orchestrator) from error
        except SpendLimitReached as error:
            detail = f"the operator's spend limit does not allow this stream: {error}"
            raise Problem(402, ProblemCode.SPEND_LIMIT, detail) from error
        except LedgerUnavailable as error:
            retry = {"Retry-After": str(RETRY_AFTER_NO_ORCHESTRATOR)}
            raise Problem(503, ProblemCode.LEDGER_UNAVAILABLE, str(error), headers=retry) from error
        except OfferRefused as error:
            raise offer_refused(error) from error
        self._trace(stream, wanted)
        stream.may_output = may_output
        stream.outputs_refused = decided is not None and decided.outputs is False
        if self._outputs is not None:
            self._outputs.begin(stream, targets, _recorded(grant, decided))
        publisher = stream.publishers.peer
        assert publisher is not None
        return web.Response(
            status=201,
            body=publisher.answer.encode(),
            content_type=SDP,
            headers=self._links.created(
                request,
                f"{PREFIX}/{wanted.name}/whip/{stream.publishers.session.id}",
                publisher.etag,
                {"Livepeer-Playback-URL": self._links.playback(request, wanted.name)},
            ),
        )

    def _trace(self, stream: Stream, wanted: PublishRequest) -> None:
        """The publish's trace goes on until the first picture, unless it goes on with a job that waited."""
        resumed = stream.request.request_id != wanted.request_id
        span = tracing.current()
        span.note(request_id=stream.request.request_id, model=stream.request.model, resumed=resumed)
        if resumed:
            span.end()

    def _publish_request(self, request: web.Request) -> PublishRequest:
        query = request.query
        name = checked(request.match_info["stream"])
        params = parse_json_object(query["params"], "the query's params") if query.get("params") else {}
        stream_id = checked(query["streamId"], "stream id") if query.get("streamId") else name
        limits: StreamLimits = NO_LIMITS
        grant = request.get(GRANT)
        if grant is not None:
            refuse_unless_allowed(grant, stream_id)
            limits = grant.limits
            params = {**(grant.params or {}), **params}
        return PublishRequest(
            name=name,
            stream_id=stream_id,
            request_id=secrets.token_hex(8),
            **self._model_of(query.get("pipeline", ""), grant),
            params=params,
            orchestrator=query.get("orchestrator") or None,
            standby=_flag(query["standby"], "standby") if query.get("standby") else self._standby,
            limits=limits,
        )

    def _check_choice(self, wanted: PublishRequest, grant: Grant | None) -> None:
        """Raises Problem 403 for a publisher that names an orchestrator and may not; all may name a kind."""
        free = self._everybody_chooses or (grant is not None and grant.may_choose)
        if not free and wanted.orchestrator not in {None, *self._registry.kinds}:
            detail = "only a token with chooseOrchestrator, or the auth webhook, may name an orchestrator"
            raise Problem(403, ProblemCode.MAY_NOT_CHOOSE, f"{detail}: leave orchestrator out")

    def _may_output(self, grant: Grant | None, decided: WebhookAnswer | None) -> bool:
        """Whether the publisher may name servers that its stream is sent on to."""
        if decided is not None and decided.outputs is not None:
            return decided.outputs
        return self._everybody_chooses or (grant is not None and grant.may_output)

    async def _targets(
        self, request: web.Request, decided: WebhookAnswer | None, may_output: bool
    ) -> list[Target]:
        """Where the stream is to be sent on to. Raises Problem 400, 403 or 429."""
        urls = request.query.getall("rtmpOutput", [])
        if decided is not None and decided.rtmp_output is not None:
            urls = [decided.rtmp_output]
        elif urls and not may_output:
            raise Problem(403, ProblemCode.MAY_NOT_OUTPUT, MAY_NOT_OUTPUT)
        if self._outputs is None:
            return []
        try:
            return await self._outputs.check(urls)
        except OutputRefused as error:
            raise output_refused(error) from error

    def _model_of(self, pipeline: str, grant: Grant | None) -> dict[str, Any]:
        """The model of a publish, and whether its token says that it may be used."""
        granted = () if grant is None else grant.models
        if pipeline in DEFAULT_PIPELINES and granted:
            return {"model": granted[0], "model_granted": True}
        model = self._model(pipeline)
        return {"model": model, "model_granted": model in granted}

    def _model(self, pipeline: str) -> str:
        return self._default_model if pipeline in DEFAULT_PIPELINES else pipeline

    def _question(self, request: web.Request, wanted: PublishRequest) -> dict[str, str]:
        """The auth webhook's question, in go-livepeer's fields."""
        stream = f"{PREFIX}/{wanted.name}"
        return {
            "stream": wanted.name,
            "stream_key": wanted.name,
            "query_params": request.rel_url.raw_query_string,
            "gateway_host": urlsplit(self._links.forwarding.url(request, "")).netloc,
            "whep_url": self._links.forwarding.url(request, f"{stream}/whep"),
            "update_url": self._links.forwarding.url(request, f"{stream}/update"),
            "status_url": self._links.forwarding.url(request, f"{PREFIX}/{wanted.stream_id}/status"),
        }

    def _with_answer(self, wanted: PublishRequest, answer: WebhookAnswer) -> PublishRequest:
        return replace(
            wanted,
            model=wanted.model if answer.pipeline is None else self._model(answer.pipeline),
            model_granted=wanted.model_granted or answer.pipeline is not None,
            limits=wanted.limits.lowered_by(answer.limits),
            params=wanted.params if answer.params is None else answer.params,
            orchestrator=wanted.orchestrator if answer.orchestrator is None else answer.orchestrator,
            standby=wanted.standby if answer.standby is None else answer.standby,
            stream_id=wanted.stream_id if answer.stream_id is None else answer.stream_id,
        )

    async def unpublish(self, request: web.Request) -> web.Response:
        stream, resume = self._published(request), request.query.get("resume")
        held = _flag(resume, "resume") if resume else True
        if stream is not None:
            (stream.publishers.leave if held else stream.end)(EndReason.DELETED, "its publisher sent DELETE")
        return web.Response()

    async def trickle(self, request: web.Request) -> web.Response:
        stream = self._published(request)
        return await trickle(request, stream.publishers.peer if stream else None)

    def _published(self, request: web.Request) -> Stream | None:
        """The stream of a WHIP Location; its name and its secret must both fit."""
        stream = self._registry.by_session(request.match_info["session"])
        return stream if stream and stream.request.name == request.match_info["stream"] else None


def _recorded(grant: Grant | None, decided: WebhookAnswer | None) -> RecordOf | None:
    """What of a stream is recorded, where its token or the webhook says."""
    if decided is not None and decided.record is not None:
        return decided.record
    return None if grant is None else grant.record


def _may_not_start(error: MayNotStart) -> Problem:
    headers = {"Retry-After": str(error.retry_after)}
    if isinstance(error, TooManyStarts):
        limit = "maxPaidStartsPerMinute"
        return Problem(429, ProblemCode.LIMIT_REACHED, str(error), headers=headers, limit=limit)
    if isinstance(error, RefusedBySigner):
        return Problem(402, ProblemCode.SIGNER_REFUSED, str(error), headers=headers)
    return Problem(429, ProblemCode.NOBODY_SHOWS, str(error), headers=headers)


def _publisher(grant: Grant | None, customer: str | None, address: str) -> str:
    """Whom limits over time count, as the ledger keeps it: they count the same after a restart."""
    if grant is not None:
        return clean(grant.publisher, MAX_PUBLISHER)
    if customer is not None:
        return clean(f"customer {customer}", MAX_PUBLISHER)
    return f"address {client_key(address)}"


def _customer(grant: Grant | None, decided: WebhookAnswer | None) -> Customer:
    """Whom the stream is for: what the webhook says of it goes before the token's line."""
    customer = ANYBODY if grant is None else grant.customer
    if decided is None:
        return customer
    name = None if decided.customer is None else clean(decided.customer, MAX_NAME)
    headers = customer.signer_headers if decided.signer_headers is None else decided.signer_headers
    markup = customer.markup if decided.markup is None else decided.markup
    return Customer(customer.name if name is None else name, headers, markup)


def _flag(value: str, name: str) -> bool:
    try:
        return bool(BOOLEAN.parse(value))
    except ValueError as error:
        raise Problem(
            400, ProblemCode.BAD_PARAMETER, f"the query's {name} takes {BOOLEAN.accepts}"
        ) from error


def _no_orchestrator(error: NoOrchestrator, *, asked: str | None) -> Problem:
    candidates, rows = error.candidates, [candidate_json(candidate) for candidate in error.candidates]
    unfunded = next((c.detail for c in candidates if c.verdict is Verdict.UNFUNDED), None)
    if unfunded is not None:
        return Problem(503, ProblemCode.UNFUNDED, unfunded, candidates=rows)
    if candidates and all(c.verdict is Verdict.BAD_PARAMS for c in candidates):
        detail = f"the parameters cannot be used: {candidates[0].detail}"
        return Problem(400, ProblemCode.BAD_PARAMS, detail)
    if not candidates:
        detail = "no orchestrator is known yet: try again later"
        if asked is not None:
            detail = f"no orchestrator is known as {asked[:200]!r}: leave orchestrator out, or name another"
    else:
        verdicts = "; ".join(f"{c.url}: {c.verdict}" for c in candidates)
        detail = f"no orchestrator can take this stream now ({verdicts}); try again later"
        if any(c.verdict is Verdict.PRICE_ABOVE_MAX for c in candidates):
            detail += ", or raise -maxPricePerUnit"
    headers = {"Retry-After": str(RETRY_AFTER_NO_ORCHESTRATOR)}
    return Problem(503, ProblemCode.NO_ORCHESTRATOR, detail, headers=headers, candidates=rows)
