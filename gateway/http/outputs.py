"""A stream's outputs, changed while it is live."""

from __future__ import annotations

from aiohttp import web

from gateway.http.access import GRANT
from gateway.http.bodies import read_json_object
from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import JSON, Route, Token
from gateway.http.sessions import STREAM
from gateway.http.streams import unknown_stream
from gateway.outputs.outputs import OutputRefused, Outputs, TooManyOutputs
from gateway.stream.registry import StreamRegistry
from gateway.stream.stream import Stream

OUTPUTS = STREAM + "/outputs"
MAY_NOT_OUTPUT = (
    "only a token with the word outputs, or the auth webhook, may send a stream on to other servers: "
    "leave rtmpOutput out"
)


class OutputRoutes:
    """With `everybody` a publisher may have outputs without a token that allows it."""

    def __init__(self, registry: StreamRegistry, outputs: Outputs, *, everybody: bool = False) -> None:
        self._registry = registry
        self._outputs = outputs
        self._everybody = everybody

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                OUTPUTS,
                self.show,
                "a stream's outputs, their URLs as scheme and host",
                {200: "the outputs", 404: "no such stream is live"},
                token=Token.PUBLISH,
                by_id=True,
            ),
            Route(
                "POST",
                OUTPUTS,
                self.add,
                "send a live stream on: url, and source to have it as it came in",
                {
                    201: "it begins; the answer has its id",
                    400: "the URL cannot be served",
                    403: "the token does not allow outputs",
                    404: "no such stream is live",
                    408: "the body took too long",
                    413: "the body is too large",
                    429: "as many outputs run as may",
                },
                takes=JSON,
                token=Token.PUBLISH,
                by_id=True,
            ),
            Route(
                "DELETE",
                OUTPUTS + "/{output}",
                self.remove,
                "end an output",
                {200: "ended, or there was none", 404: "no such stream is live"},
                gives=None,
                token=Token.PUBLISH,
                by_id=True,
            ),
        ]

    async def show(self, request: web.Request) -> web.Response:
        body = {"outputs": self._outputs.status(self._stream(request))}
        return web.json_response(body, headers={"Cache-Control": "no-store"})

    async def add(self, request: web.Request) -> web.Response:
        stream = self._stream(request)
        grant = request.get(GRANT)
        allowed = self._everybody or (grant is not None and grant.may_output) or stream.may_output
        if stream.outputs_refused or not allowed:
            raise Problem(403, ProblemCode.MAY_NOT_OUTPUT, MAY_NOT_OUTPUT)
        body = await read_json_object(request)
        url, source = body.get("url"), body.get("source", False)
        if not isinstance(url, str) or not isinstance(source, bool):
            detail = (
                'the body is {"url": "rtmp://host/app/key"}, with "source": true for the stream as it came in'
            )
            raise Problem(400, ProblemCode.BAD_PARAMETER, detail)
        try:
            made = await self._outputs.add(stream, url, source=source)
        except OutputRefused as error:
            raise output_refused(error) from error
        return web.json_response(made, status=201)

    async def remove(self, request: web.Request) -> web.Response:
        self._outputs.remove(self._stream(request), request.match_info["output"])
        return web.Response()

    def _stream(self, request: web.Request) -> Stream:
        stream = self._registry.find(request.match_info["stream"])
        if stream is None:
            raise unknown_stream(request)
        return stream


def output_refused(error: OutputRefused) -> Problem:
    if isinstance(error, TooManyOutputs):
        return Problem(429, ProblemCode.LIMIT_REACHED, str(error), headers={"Retry-After": "5"})
    return Problem(400, ProblemCode.BAD_OUTPUT, str(error))
