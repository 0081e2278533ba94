"""WHIP, WHEP, update and status: the routes under /live/video-to-video/."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from multidict import CIMultiDict

from gateway.http.access import GRANT, refuse_unless_allowed
from gateway.http.bodies import parse_json_object, read_json_object, read_sdp, read_sdp_fragment
from gateway.http.forwarding import Forwarding
from gateway.http.limits import Limits
from gateway.http.problem import Problem
from gateway.http.route import JSON, SDP, SDP_FRAGMENT, Route, Token
from gateway.http.schemas import STATUS
from gateway.http.webhook import AuthWebhook, Verdict
from gateway.payments.ledger import LedgerUnavailable
from gateway.payments.spending import NO_LIMITS, SpendLimitReached
from gateway.reason import EndReason
from gateway.stream import admission
from gateway.stream.admission import NotAdmitted
from gateway.stream.names import BadName, check_name
from gateway.stream.places import LimitReached
from gateway.stream.registry import NameTaken, NoOrchestrator, Registry
from gateway.stream.relay import Json, PublishRequest, UpdateRefused
from gateway.stream.status import stream_status
from gateway.stream.stream import Stream
from gateway.telemetry.metrics import Metrics
from gateway.webrtc.errors import OfferRefused
from gateway.webrtc.ice_servers import IceServer
from gateway.webrtc.peer import Peer

PREFIX = "/live/video-to-video"
RETRY_AFTER_NO_ORCHESTRATOR = 10
"""Seconds after which a refused publisher should ask again."""

RETRY_AFTER_LIMIT = 5
OWN_PIPELINES = frozenset({"", "comfyui", "live-video-to-video"})
"""Names of pipelines that mean the gateway's own model."""

_OFFER_STATUS = {"no_common_codec": 406, "ice_restart": 422, "no_udp_port": 503}
_UPDATE_STATUS = {"worker_busy": 503, "worker_refused": 422, "worker_silent": 504}


class LiveRoutes:
    """HTTP's view of the registry."""

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        *,
        default_model: str,
        forwarding: Forwarding,
        limits: Limits,
        webhook: AuthWebhook | None = None,
        ice_servers: Sequence[IceServer] = (),
        funds: Callable[[], Json] | None = None,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._default_model = default_model
        self._forwarding = forwarding
        self._limits = limits
        self._webhook = webhook
        self._ice_servers = ice_servers
        self._funds = funds

    def routes(self) -> list[Route]:
        stream = PREFIX + "/{stream}"
        whip, whep = stream + "/whip", stream + "/whep"
        publish, play = Token.PUBLISH, Token.PLAY
        offer_refused = {
            400: "the offer or a parameter is not understood",
            406: "the offer has no codec that is accepted; the detail names those",
            408: "the body came too slowly",
            413: "the body is too large",
            415: "the body is not application/sdp",
            429: "a limit is reached, or requests come too fast",
        }
        patch_refused = {
            400: "the fragment is not understood",
            404: "no such session",
            408: "the body came too slowly",
            412: "If-Match names another ICE session",
            413: "the body is too large",
            415: "the body is not application/trickle-ice-sdpfrag",
            422: "an ICE restart, which is not supported: make a new session",
            428: "If-Match is missing",
        }
        return [
            Route(
                "POST",
                whip,
                self.publish,
                "publish a stream (WHIP, RFC 9725)",
                {
                    201: "the answer, with Location, ETag, Link and Livepeer-Playback-URL",
                    402: "a spend limit of the operator does not allow it",
                    403: "the auth webhook refuses the stream, or the token is not for it",
                    409: "the name or id is taken",
                    503: "no orchestrator can take the stream; the candidates say why; or the gateway drains",
                    **offer_refused,
                },
                takes=SDP,
                gives=SDP,
                token=publish,
                query={
                    "pipeline": "the pipeline; left out, the gateway's own",
                    "params": "parameters for the worker, a JSON object",
                    "streamId": "the stream's id, its name where left out",
                    "orchestrator": "use this orchestrator only: its URL or address",
                },
            ),
            Route(
                "PATCH",
                whip + "/{session}",
                self.trickle_publisher,
                "more candidates of a publisher (RFC 9725, 4.3)",
                {204: "taken", **patch_refused},
                takes=SDP_FRAGMENT,
                gives=None,
                token=publish,
            ),
            Route(
                "DELETE",
                whip + "/{session}",
                self.unpublish,
                "stop publishing",
                {200: "stopped, or was not there"},
                gives=None,
                token=publish,
            ),
            Route(
                "POST",
                whep,
                self.watch,
                "watch a stream, before there is a publisher too (WHEP)",
                {201: "the answer, with Location, ETag and Link", **offer_refused},
                takes=SDP,
                gives=SDP,
                token=play,
                by_id=True,
            ),
            Route(
                "PATCH",
                whep + "/{session}",
                self.trickle_viewer,
                "more candidates of a viewer",
                {204: "taken", **patch_refused},
                takes=SDP_FRAGMENT,
                gives=None,
                token=play,
            ),
            Route(
                "DELETE",
                whep + "/{session}",
                self.unwatch,
                "stop watching",
                {200: "stopped, or was not there"},
                gives=None,
                token=play,
            ),
            Route(
                "POST",
                stream + "/update",
                self.update,
                "new parameters for the worker",
                {
                    200: "handed on",
                    400: "the body is no JSON object",
                    404: "no such stream is live",
                    408: "the body came too slowly",
                    413: "the body is too large",
                    422: "the worker refused them",
                    503: "too many updates wait",
                    504: "the worker did not answer",
                },
                takes=JSON,
                token=publish,
                by_id=True,
            ),
            Route(
                "GET",
                stream + "/status",
                self.status,
                "the worker's status, and the gateway's as gateway_status",
                {200: "the status", 404: "no such stream, now or within the last minute"},
                schema=STATUS,
            ),
        ]

    # WHIP (RFC 9725)

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
        claims = self._limits.on_stream(self._forwarding.client(request), request.get(GRANT))
        try:
            stream = await self._registry.publish(wanted, offer, claims)
        except NameTaken as error:
            raise Problem(409, "name_taken", str(error)) from error
        except LimitReached as error:
            raise _limit_reached(error) from error
        except NotAdmitted as refusal:
            raise Problem(
                503, refusal.code, str(refusal), headers={"Retry-After": str(admission.RETRY_AFTER)}
            ) from refusal
        except NoOrchestrator as error:
            raise _no_orchestrator(error) from error
        except SpendLimitReached as error:
            detail = f"the operator's spend limit does not allow this stream: {error}"
            raise Problem(402, "spend_limit", detail) from error
        except LedgerUnavailable as error:
            retry = {"Retry-After": str(RETRY_AFTER_NO_ORCHESTRATOR)}
            raise Problem(503, "ledger_unavailable", str(error), headers=retry) from error
        except OfferRefused as error:
            raise _offer_refused(error) from error
        publisher = stream.publisher
        assert publisher is not None
        return web.Response(
            status=201,
            text=publisher.answer,
            content_type="application/sdp",
            headers=self._created(
                request,
                f"{PREFIX}/{wanted.name}/whip/{wanted.request_id}",
                publisher.etag,
                {"Livepeer-Playback-URL": self._whep_url(request, wanted.name)},
            ),
        )

    def _publish_request(self, request: web.Request) -> PublishRequest:
        query = request.query
        name = _checked(request.match_info["stream"])
        params = parse_json_object(query["params"], "the query's params") if query.get("params") else {}
        stream_id = _checked(query["streamId"], "stream id") if query.get("streamId") else name
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
            "gateway_host": urlsplit(self._forwarding.url(request, "")).netloc,
            "whep_url": self._forwarding.url(request, f"{stream}/whep"),
            "update_url": self._forwarding.url(request, f"{stream}/update"),
            "status_url": self._forwarding.url(request, f"{PREFIX}/{wanted.stream_id}/status"),
        }

    def _decided(self, wanted: PublishRequest, verdict: Verdict) -> PublishRequest:
        return replace(
            wanted,
            model=wanted.model if verdict.pipeline is None else self._model(verdict.pipeline),
            limits=wanted.limits.lowered_by(verdict.limits),
            params=wanted.params if verdict.params is None else verdict.params,
            orchestrator=wanted.orchestrator if verdict.orchestrator is None else verdict.orchestrator,
            stream_id=wanted.stream_id
            if verdict.stream_id is None
            else _checked(verdict.stream_id, "stream id"),
        )

    async def unpublish(self, request: web.Request) -> web.Response:
        stream = self._published(request)
        if stream is not None:
            stream.end(EndReason.DELETED, "its publisher deleted it")
        return web.Response()

    async def trickle_publisher(self, request: web.Request) -> web.Response:
        stream = self._published(request)
        return await self._trickle(request, stream.publisher if stream else None)

    def _published(self, request: web.Request) -> Stream | None:
        """The stream that a Location of WHIP means: the name in it counts as much as the secret behind it."""
        stream = self._registry.by_request_id(request.match_info["session"])
        return stream if stream and stream.request.name == request.match_info["stream"] else None

    # WHEP (draft-ietf-wish-whep)

    async def watch(self, request: web.Request) -> web.Response:
        path_name = request.match_info["stream"]
        name = _checked(self._registry.watched_name(path_name))
        offer = await read_sdp(request)
        viewer_id = secrets.token_hex(8)
        claims = self._limits.on_viewer(name, self._forwarding.client(request), request.get(GRANT))
        try:
            viewer = await self._registry.watch(name, viewer_id, offer, claims)
        except LimitReached as error:
            raise _limit_reached(error) from error
        except OfferRefused as error:
            raise _offer_refused(error) from error
        return web.Response(
            status=201,
            text=viewer.answer,
            content_type="application/sdp",
            headers=self._created(request, f"{PREFIX}/{name}/whep/{viewer_id}", viewer.etag),
        )

    async def unwatch(self, request: web.Request) -> web.Response:
        await self._registry.stop_watching(request.match_info["stream"], request.match_info["session"])
        return web.Response()

    async def trickle_viewer(self, request: web.Request) -> web.Response:
        viewer = self._registry.viewer(request.match_info["stream"], request.match_info["session"])
        return await self._trickle(request, viewer)

    # what both have in common

    def _created(
        self, request: web.Request, location: str, etag: str, more: Mapping[str, str] | None = None
    ) -> CIMultiDict[str]:
        """The headers of a 201 (RFC 9725, 4.2 and 4.6)."""
        headers = CIMultiDict(more or {})
        headers["Location"] = self._forwarding.link(request, location)
        headers["ETag"] = etag
        headers["Accept-Patch"] = SDP_FRAGMENT
        for server in self._ice_servers:
            headers.add("Link", server.link)
        return headers

    async def _trickle(self, request: web.Request, peer: Peer | None) -> web.Response:
        """PATCH with candidates (RFC 9725, 4.3.2). ICE restarts are refused as 4.3.1 asks: 422."""
        if peer is None:
            raise Problem(404, "unknown_session", "there is no such session: it ended, or never was")
        matches = request.headers.get("If-Match")
        if matches is None:
            raise Problem(428, "if_match_missing", "send If-Match with the ETag of the 201")
        fragment = await read_sdp_fragment(request)
        if matches.strip() != "*" and peer.etag not in [one.strip() for one in matches.split(",")]:
            raise Problem(412, "if_match_failed", "If-Match names another ICE session than this one's ETag")
        try:
            await peer.trickle(fragment)
        except OfferRefused as error:
            raise _offer_refused(error) from error
        return web.Response(status=204)

    def _whep_url(self, request: web.Request, name: str) -> str:
        return self._forwarding.link(request, f"{PREFIX}/{name}/whep")

    # the stream API

    async def update(self, request: web.Request) -> web.Response:
        stream = self._registry.find(request.match_info["stream"])
        if stream is None:
            raise _unknown_stream(request)
        try:
            answer = await stream.update(await read_json_object(request))
        except UpdateRefused as error:
            raise Problem(_UPDATE_STATUS[error.code], error.code, str(error)) from error
        return web.json_response({"status": "ok", **answer})

    async def status(self, request: web.Request) -> web.Response:
        stream = self._registry.find_with_ended(request.match_info["stream"])
        if stream is None:
            raise _unknown_stream(request)
        name = stream.request.name
        body = stream_status(
            stream, viewers=self._registry.viewers_of(name), whep_url=self._whep_url(request, name)
        )
        if self._funds is not None:
            body["gateway_status"]["funds"] = self._funds()
        return web.json_response(body, headers={"Cache-Control": "no-store"})


def _checked(name: str, what: str = "stream name") -> str:
    try:
        return check_name(name, what)
    except BadName as error:
        raise Problem(400, "bad_name", str(error)) from error


def _unknown_stream(request: web.Request) -> Problem:
    name = request.match_info["stream"]
    return Problem(404, "unknown_stream", f"no stream of the name or id {name[:140]!r} is live")


def _offer_refused(error: OfferRefused) -> Problem:
    return Problem(_OFFER_STATUS.get(error.code, 400), error.code, error.detail)


def _limit_reached(error: LimitReached) -> Problem:
    headers = {"Retry-After": str(RETRY_AFTER_LIMIT)}
    return Problem(429, "limit_reached", str(error), headers=headers, limit=error.claim.limit)


def _no_orchestrator(error: NoOrchestrator) -> Problem:
    candidates: list[dict[str, Any]] = [candidate.json() for candidate in error.candidates]
    unfunded = next((c["detail"] for c in candidates if c["verdict"] == "unfunded"), None)
    if unfunded is not None:
        return Problem(503, "unfunded", unfunded, candidates=candidates)
    if candidates and all(c["verdict"] == "bad_params" for c in candidates):
        return Problem(400, "bad_params", f"the parameters cannot be used: {candidates[0]['detail']}")
    said = "; ".join(f"{c['url']}: {c['verdict']}" for c in candidates) or "none is known"
    return Problem(
        503,
        "no_orchestrator",
        f"no orchestrator can take this stream now ({said}); try again, or raise -maxPricePerUnit",
        headers={"Retry-After": str(RETRY_AFTER_NO_ORCHESTRATOR)},
        candidates=candidates,
    )
