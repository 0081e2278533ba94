"""WHIP (RFC 9725): publishers."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from gateway.flags import BOOLEAN
from gateway.http.access import GRANT, refuse_unless_allowed
from gateway.http.bodies import parse_json_object, read_sdp
from gateway.http.limits import Limits
from gateway.http.problem import Problem
from gateway.http.route import SDP, Route, Token
from gateway.http.sessions import (
    POST_REFUSED,
    PREFIX,
    STREAM,
    Links,
    checked,
    limit_reached,
    offer_refused,
    session_routes,
    trickle,
)
from gateway.http.webhook import AuthWebhook, WebhookAnswer
from gateway.payments.ledger import LedgerUnavailable
from gateway.payments.spending import NO_LIMITS, SpendLimitReached
from gateway.reason import EndReason
from gateway.stream import admission
from gateway.stream.admission import NotAdmitted
from gateway.stream.quotas import LimitReached
from gateway.stream.registry import NameTaken, NoOrchestrator, Registry
from gateway.stream.seam import PublishRequest
from gateway.stream.stream import Stream
from gateway.telemetry.metrics import Metrics
from gateway.webrtc.errors import OfferRefused

WHIP = STREAM + "/whip"
RETRY_AFTER_NO_ORCHESTRATOR = 10
"""Seconds after which a refused publisher should ask again."""
OWN_PIPELINES = frozenset({"", "comfyui", "live-video-to-video"})
"""Names of pipelines that mean the gateway's own model."""


class WhipRoutes:
    """Publishers come in, send more candidates, and leave."""

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        links: Links,
        limits: Limits,
        *,
        default_model: str,
        standby: bool = False,
        webhook: AuthWebhook | None = None,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._links = links
        self._limits = limits
        self._default_model = default_model
        self._standby = standby
        self._webhook = webhook

    def routes(self) -> list[Route]:
        return [
            Route(
                "POST",
                WHIP,
                self.publish,
                "publish a stream (WHIP, RFC 9725)",
                {
                    201: "the answer, with Location, ETag, Link and Livepeer-Playback-URL",
                    402: "a spend limit of the operator does not allow it",
                    403: "the auth webhook refuses the stream, or the token is not for it",
                    409: "the name or id is taken",
                    503: "no orchestrator can take the stream; the candidates say why; or the gateway drains",
                    **POST_REFUSED,
                },
                takes=SDP,
                gives=SDP,
                token=Token.PUBLISH,
                query={
                    "pipeline": "the pipeline; left out, the gateway's own",
                    "params": "parameters for the worker, a JSON object",
                    "streamId": "the stream's id, its name where left out",
                    "orchestrator": "use this orchestrator only: its URL or address",
                    "standby": "true or false: whether a second job is to stand by, -standby where left out",
                },
            ),
            *session_routes(WHIP, Token.PUBLISH, "publisher", self.trickle, self.unpublish),
        ]

    async def publish(self, request: web.Request) -> web.Response:
        try:
            response = await self._publish(request)
        except Problem as problem:
            self._metrics.starts.labels(problem.code).inc()
            raise
        self._metrics.starts.labels("accepted").inc()
        return response

    async def _publish(self, request: web.Request) -> web.Response:
        wanted = self._publish_request(request)
        offer = await read_sdp(request)
        if self._webhook is not None:
            wanted = self._decided(wanted, await self._webhook.ask(self._question(request, wanted)))
        claims = self._limits.on_stream(self._links.forwarding.client(request), request.get(GRANT))
        try:
            stream = await self._registry.publish(wanted, offer, claims)
        except NameTaken as error:
            raise Problem(409, "name_taken", str(error)) from error
        except LimitReached as error:
            raise limit_reached(error) from error
        except NotAdmitted as refusal:
            raise Problem(
                503, refusal.code, str(refusal), headers={"Retry-After": str(admission.RETRY_AFTER)}
            ) from refusal
        except NoOrchestrator as error:
            raise _no_orchestrator(error, asked=wanted.orchestrator) from error
        except SpendLimitReached as error:
            detail = f"the operator's spend limit does not allow this stream: {error}"
            raise Problem(402, "spend_limit", detail) from error
        except LedgerUnavailable as error:
            retry = {"Retry-After": str(RETRY_AFTER_NO_ORCHESTRATOR)}
            raise Problem(503, "ledger_unavailable", str(error), headers=retry) from error
        except OfferRefused as error:
            raise offer_refused(error) from error
        publisher = stream.publisher
        assert publisher is not None
        return web.Response(
            status=201,
            body=publisher.answer.encode(),
            content_type=SDP,
            headers=self._links.created(
                request,
                f"{PREFIX}/{wanted.name}/whip/{wanted.request_id}",
                publisher.etag,
                {"Livepeer-Playback-URL": self._links.playback(request, wanted.name)},
            ),
        )

    def _publish_request(self, request: web.Request) -> PublishRequest:
        query = request.query
        name = checked(request.match_info["stream"])
        params = parse_json_object(query["params"], "the query's params") if query.get("params") else {}
        stream_id = checked(query["streamId"], "stream id") if query.get("streamId") else name
        limits = NO_LIMITS
        if (grant := request.get(GRANT)) is not None:
            refuse_unless_allowed(grant, stream_id)
            limits = grant.limits
        return PublishRequest(
            name=name,
            stream_id=stream_id,
            request_id=secrets.token_hex(8),
            model=self._model(query.get("pipeline", "")),
            params=params,
            orchestrator=query.get("orchestrator") or None,
            standby=_flag(query["standby"], "standby") if query.get("standby") else self._standby,
            limits=limits,
        )

    def _model(self, pipeline: str) -> str:
        return self._default_model if pipeline in OWN_PIPELINES else pipeline

    def _question(self, request: web.Request, wanted: PublishRequest) -> dict[str, str]:
        """What the auth webhook is told (go-livepeer's fields)."""
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

    def _decided(self, wanted: PublishRequest, verdict: WebhookAnswer) -> PublishRequest:
        return replace(
            wanted,
            model=wanted.model if verdict.pipeline is None else self._model(verdict.pipeline),
            limits=wanted.limits.lowered_by(verdict.limits),
            params=wanted.params if verdict.params is None else verdict.params,
            orchestrator=wanted.orchestrator if verdict.orchestrator is None else verdict.orchestrator,
            standby=wanted.standby if verdict.standby is None else verdict.standby,
            stream_id=wanted.stream_id if verdict.stream_id is None else verdict.stream_id,
        )

    async def unpublish(self, request: web.Request) -> web.Response:
        stream = self._published(request)
        if stream is not None:
            stream.end(EndReason.DELETED, "its publisher deleted it")
        return web.Response()

    async def trickle(self, request: web.Request) -> web.Response:
        stream = self._published(request)
        return await trickle(request, stream.publisher if stream else None)

    def _published(self, request: web.Request) -> Stream | None:
        """The stream that a Location of WHIP means: the name in it counts as much as the secret behind it."""
        stream = self._registry.by_request_id(request.match_info["session"])
        return stream if stream and stream.request.name == request.match_info["stream"] else None


def _flag(value: str, name: str) -> bool:
    try:
        return bool(BOOLEAN.parse(value))
    except ValueError as error:
        raise Problem(400, "bad_parameter", f"the query's {name} is {BOOLEAN.accepts}") from error


def _no_orchestrator(error: NoOrchestrator, *, asked: str | None) -> Problem:
    candidates: list[dict[str, Any]] = [candidate.json() for candidate in error.candidates]
    unfunded = next((c["detail"] for c in candidates if c["verdict"] == "unfunded"), None)
    if unfunded is not None:
        return Problem(503, "unfunded", unfunded, candidates=candidates)
    if candidates and all(c["verdict"] == "bad_params" for c in candidates):
        return Problem(400, "bad_params", f"the parameters cannot be used: {candidates[0]['detail']}")
    said = "; ".join(f"{c['url']}: {c['verdict']}" for c in candidates) or "none is known"
    advice = "try again later"
    if not candidates and asked is not None:
        said, advice = (
            f"none is known as {asked[:200]!r}",
            "leave the query's orchestrator out, or name another",
        )
    elif any(c["verdict"] == "price_above_max" for c in candidates):
        advice += ", or raise -maxPricePerUnit"
    return Problem(
        503,
        "no_orchestrator",
        f"no orchestrator can take this stream now ({said}); {advice}",
        headers={"Retry-After": str(RETRY_AFTER_NO_ORCHESTRATOR)},
        candidates=candidates,
    )
