"""WHIP, WHEP, update and status: the routes under /live/video-to-video/."""

from __future__ import annotations

import secrets
from typing import Any

from aiohttp import web

from gateway.http.bodies import parse_json_object, read_json_object, read_sdp
from gateway.http.problem import Problem
from gateway.stream.names import BadName, check_name
from gateway.stream.reason import EndReason
from gateway.stream.registry import NameTaken, NoOrchestrator, Registry
from gateway.stream.relay import PublishRequest, UpdateRefused
from gateway.stream.status import stream_status
from gateway.telemetry.metrics import Metrics
from gateway.webrtc.errors import OfferRefused

PREFIX = "/live/video-to-video"
RETRY_AFTER_NO_ORCHESTRATOR = 10
"""Seconds after which a refused publisher should ask again."""

_OFFER_STATUS = {"no_common_codec": 406}
_UPDATE_STATUS = {"worker_busy": 503, "worker_refused": 422, "worker_silent": 504}


class LiveRoutes:
    """HTTP's view of the registry."""

    def __init__(self, registry: Registry, metrics: Metrics, *, default_model: str) -> None:
        self._registry = registry
        self._metrics = metrics
        self._default_model = default_model

    def routes(self) -> list[web.RouteDef]:
        stream = PREFIX + "/{stream}"
        return [
            web.post(stream + "/whip", self.publish),
            web.delete(stream + "/whip/{request_id}", self.unpublish),
            web.post(stream + "/whep", self.watch),
            web.delete(stream + "/whep/{viewer_id}", self.unwatch),
            web.post(stream + "/update", self.update),
            web.get(stream + "/status", self.status),
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
        try:
            stream = await self._registry.publish(wanted, offer)
        except NameTaken as error:
            raise Problem(409, "name_taken", str(error)) from error
        except NoOrchestrator as error:
            raise _no_orchestrator(error) from error
        except OfferRefused as error:
            raise _offer_refused(error) from error
        publisher = stream.publisher
        assert publisher is not None
        return web.Response(
            status=201,
            text=publisher.answer,
            content_type="application/sdp",
            headers={
                "Location": f"{PREFIX}/{wanted.name}/whip/{wanted.request_id}",
                "ETag": publisher.etag,
                "Livepeer-Playback-URL": f"{PREFIX}/{wanted.name}/whep",
            },
        )

    def _publish_request(self, request: web.Request) -> PublishRequest:
        query = request.query
        name = _checked(request.match_info["stream"])
        params = parse_json_object(query["params"], "the query's params") if query.get("params") else {}
        return PublishRequest(
            name=name,
            stream_id=_checked(query["streamId"], "stream id") if query.get("streamId") else name,
            request_id=secrets.token_hex(8),
            model=query.get("pipeline") or self._default_model,
            params=params,
            orchestrator=query.get("orchestrator") or None,
        )

    async def unpublish(self, request: web.Request) -> web.Response:
        stream = self._registry.by_request_id(request.match_info["request_id"])
        if stream is not None:
            stream.end(EndReason.DELETED, "its publisher deleted it")
        return web.Response()

    # WHEP (draft-ietf-wish-whep)

    async def watch(self, request: web.Request) -> web.Response:
        path_name = request.match_info["stream"]
        name = _checked(self._registry.watched_name(path_name))
        offer = await read_sdp(request)
        viewer_id = secrets.token_hex(8)
        try:
            viewer = await self._registry.watch(name, viewer_id, offer)
        except OfferRefused as error:
            raise _offer_refused(error) from error
        return web.Response(
            status=201,
            text=viewer.answer,
            content_type="application/sdp",
            headers={"Location": f"{PREFIX}/{name}/whep/{viewer_id}", "ETag": viewer.etag},
        )

    async def unwatch(self, request: web.Request) -> web.Response:
        await self._registry.stop_watching(request.match_info["viewer_id"])
        return web.Response()

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
            stream, viewers=self._registry.viewers_of(name), whep_url=f"{PREFIX}/{name}/whep"
        )
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


def _no_orchestrator(error: NoOrchestrator) -> Problem:
    candidates: list[dict[str, Any]] = [candidate.json() for candidate in error.candidates]
    said = "; ".join(f"{c['url']}: {c['verdict']}" for c in candidates) or "none is known"
    return Problem(
        503,
        "no_orchestrator",
        f"no orchestrator can take this stream now ({said}); try again, or raise -maxPricePerUnit",
        headers={"Retry-After": str(RETRY_AFTER_NO_ORCHESTRATOR)},
        candidates=candidates,
    )
