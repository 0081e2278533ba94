"""`/openapi.json`, made from the same `Route` rows that are served."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from aiohttp import web

from gateway.http.forwarding import Forwarding
from gateway.http.problem import PROBLEM_JSON
from gateway.http.route import JSON, Route

Json = dict[str, Any]

PATH = "/openapi.json"

_PROBLEM: Json = {
    "description": "RFC 9457 problem details",
    "type": "object",
    "required": ["title", "status", "code", "detail"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "for programs: stable"},
        "detail": {"type": "string", "description": "for people: what is wrong and what to do"},
    },
}
_RATE_LIMITED = "more requests than -maxRequestsPerAddress allows"


class OpenApiRoutes:
    """Describes `routes` and its own route. `tokens` are the kinds of token that are asked for."""

    def __init__(
        self, routes: Iterable[Sequence[Route]], tokens: Iterable[str], forwarding: Forwarding
    ) -> None:
        self._forwarding = forwarding
        described = [route for group in routes for route in group]
        self._document = document([*described, *self.routes()], frozenset(tokens))

    def routes(self) -> list[Route]:
        return [Route("GET", PATH, self.openapi, "this description", {200: "an OpenAPI 3.1 document"})]

    async def openapi(self, request: web.Request) -> web.Response:
        here = {"servers": [{"url": self._forwarding.link(request, "") or "/"}]}
        return web.json_response(self._document | here, headers={"Cache-Control": "no-cache"})


def document(routes: Sequence[Route], tokens: frozenset[str]) -> Json:
    """The OpenAPI 3.1 document of the routes."""
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, tokens)
    schemes = {kind: {"type": "http", "scheme": "bearer"} for kind in sorted(tokens)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "livepeer-live-gateway",
            "version": version("livepeer-live-gateway"),
            "description": "Live video in over WHIP, transformed by AI on Livepeer, out over WHEP.",
        },
        "paths": paths,
        "components": {"schemas": {"Problem": _PROBLEM}, "securitySchemes": schemes},
    }


def _operation(route: Route, tokens: frozenset[str]) -> Json:
    answers = {**route.answers, 429: route.answers.get(429, _RATE_LIMITED)}
    operation: Json = {
        "summary": route.summary,
        "operationId": _operation_id(route),
        "responses": {},
    }
    if route.token in tokens:
        operation["security"] = [{str(route.token): []}]
        answers = {401: "the token is missing or unknown", 403: "the token is not for this stream", **answers}
    for status, meaning in sorted(answers.items()):
        operation["responses"][str(status)] = _response(route, status, meaning)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _path_schema(name)}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ] + [
        {"name": name, "in": "query", "description": meaning, "schema": {"type": "string"}}
        for name, meaning in route.query.items()
    ]
    if route.method == "PATCH":
        parameters.append(
            {"name": "If-Match", "in": "header", "required": True, "schema": {"type": "string"}}
        )
    if parameters:
        operation["parameters"] = parameters
    if route.takes is not None:
        schema = {"type": "object"} if route.takes == JSON else {"type": "string"}
        operation["requestBody"] = {"required": True, "content": {route.takes: {"schema": schema}}}
    return operation


def _response(route: Route, status: int, meaning: str) -> Json:
    response: Json = {"description": meaning}
    if status >= HTTPStatus.BAD_REQUEST and status not in route.plain:
        schema = {"$ref": "#/components/schemas/Problem"}
        response["content"] = {PROBLEM_JSON: {"schema": schema}}
    elif route.gives is not None:
        fallback = {"type": "object"} if route.gives == JSON else {"type": "string"}
        schema = dict(route.schema or fallback)
        response["content"] = {route.gives: {"schema": schema}}
    return response


def _operation_id(route: Route) -> str:
    words = re.findall(r"[A-Za-z]+", route.path.removeprefix("/live/video-to-video"))
    return "_".join([route.method.lower(), *words]) if words else f"{route.method.lower()}_page"


def _path_schema(name: str) -> Json:
    if name == "stream":
        return {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,128}$"}
    return {"type": "string", "minLength": 1}
