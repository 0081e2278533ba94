from __future__ import annotations

import json

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.http.forwarding import Forwarding
from gateway.http.openapi import OpenApiRoutes, document
from gateway.http.route import JSON, SDP, Route, Token
from gateway.http.server import application


async def nothing(_: web.Request) -> web.Response:
    return web.Response()


PUBLISH = Route(
    "POST",
    "/live/{stream}/whip",
    nothing,
    "publish",
    {201: "here you are", 409: "taken"},
    takes=SDP,
    gives=SDP,
    token=Token.PUBLISH,
    query={"params": "for the worker"},
)
READY = Route("GET", "/readyz", nothing, "ready", {200: "yes", 503: "no"}, plain=frozenset({503}))


def test_a_row_becomes_an_operation() -> None:
    operation = document([PUBLISH], frozenset())["paths"]["/live/{stream}/whip"]["post"]
    assert operation["summary"] == "publish"
    assert list(operation["requestBody"]["content"]) == [SDP]
    assert [(p["in"], p["name"]) for p in operation["parameters"]] == [
        ("path", "stream"),
        ("query", "params"),
    ]
    assert list(operation["responses"]) == ["201", "409", "429"]
    assert list(operation["responses"]["201"]["content"]) == [SDP]
    assert list(operation["responses"]["409"]["content"]) == ["application/problem+json"]
    assert "security" not in operation


def test_tokens_are_told_where_they_are_asked_for() -> None:
    told = document([PUBLISH, READY], frozenset({Token.PUBLISH}))
    operation = told["paths"]["/live/{stream}/whip"]["post"]
    assert operation["security"] == [{"publish": []}]
    assert {"401", "403"} <= set(operation["responses"])
    assert told["components"]["securitySchemes"] == {"publish": {"type": "http", "scheme": "bearer"}}
    assert "security" not in told["paths"]["/readyz"]["get"]


def test_an_error_may_be_answered_in_the_form_of_a_success() -> None:
    responses = document([READY], frozenset())["paths"]["/readyz"]["get"]["responses"]
    assert list(responses["503"]["content"]) == [JSON]


@pytest.mark.asyncio
async def test_the_description_describes_itself() -> None:
    (route,) = OpenApiRoutes([[PUBLISH]], (), Forwarding()).routes()
    told = await route.handler(make_mocked_request("GET", route.path))
    assert isinstance(told, web.Response)
    assert route.path in json.loads(told.body)["paths"]  # type: ignore[arg-type]


def test_all_that_is_served_is_described_and_nothing_else() -> None:
    groups = [[PUBLISH, READY]]
    groups.append(OpenApiRoutes(groups, (), Forwarding()).routes())
    served = {
        (route.method, route.resource.canonical)
        for route in application(groups).router.routes()
        if route.resource is not None and route.method not in ("OPTIONS", "HEAD")
    }
    paths = document([route for group in groups for route in group], frozenset())["paths"]
    assert served == {(method.upper(), path) for path, methods in paths.items() for method in methods}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("external", "server"), [(None, "/"), ("https://a.example/gw", "https://a.example/gw")]
)
async def test_the_description_says_where_its_paths_begin(external: str | None, server: str) -> None:
    routes = OpenApiRoutes([[PUBLISH]], (), Forwarding(external))
    told = await routes.openapi(make_mocked_request("GET", "/openapi.json"))
    assert json.loads(told.body)["servers"] == [{"url": server}]  # type: ignore[arg-type]
