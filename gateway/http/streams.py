"""The stream API: a stream's status, and new parameters for its worker."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial

from aiohttp import web

from gateway import money
from gateway.eth_rate import EthRate, usd_of
from gateway.http.bodies import read_json_object
from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import JSON, Route, Token
from gateway.http.schemas import STATUS
from gateway.http.sessions import STREAM, Links
from gateway.outputs.outputs import Outputs
from gateway.stream.ended import EndedStream
from gateway.stream.registry import StreamRegistry
from gateway.stream.seam import Json, UpdateRefused
from gateway.stream.status import stream_status

_UPDATE_STATUS = {"too_large": 413, "worker_busy": 503, "worker_refused": 422, "worker_silent": 504}


class StreamRoutes:
    """`funds` gives the signer's funds on chain, for the status; None where no chain is read.

    `rate` is what an ether is in dollars. `node` is this node's name, empty where there is no cluster.
    """

    def __init__(
        self,
        registry: StreamRegistry,
        links: Links,
        *,
        funds: Callable[[], Json] | None = None,
        outputs: Outputs | None = None,
        rate: EthRate | None = None,
        node: str = "",
    ) -> None:
        self._registry = registry
        self._links = links
        self._funds = funds
        self._outputs = outputs
        self._rate = EthRate() if rate is None else rate
        self._node = node

    def routes(self) -> list[Route]:
        return [
            Route(
                "POST",
                STREAM + "/update",
                self.update,
                "send new parameters to the worker",
                {
                    200: "passed on",
                    400: "the body is not a JSON object",
                    404: "no such stream is live",
                    408: "the body took too long",
                    413: "the body, or all parameters of the stream together, are too large",
                    422: "the worker refused them",
                    503: "too many updates are waiting",
                    504: "the worker did not answer",
                },
                takes=JSON,
                token=Token.PUBLISH,
                by_id=True,
            ),
            Route(
                "GET",
                STREAM + "/status",
                self.status,
                "the worker's status, and the gateway's as gateway_status",
                {200: "the status", 404: "no such stream, now or within the last minute"},
                schema=STATUS,
            ),
        ]

    async def update(self, request: web.Request) -> web.Response:
        stream = self._registry.find(request.match_info["stream"])
        if stream is None:
            raise unknown_stream(request)
        try:
            answer = await stream.update(await read_json_object(request))
        except UpdateRefused as error:
            raise Problem(_UPDATE_STATUS[error.code], error.code, str(error)) from error
        return web.json_response({"status": "ok", **answer})

    async def status(self, request: web.Request) -> web.Response:
        stream = self._registry.find_with_ended(request.match_info["stream"])
        if stream is None:
            raise unknown_stream(request)
        name = stream.request.name
        tell = stream.status if isinstance(stream, EndedStream) else partial(stream_status, stream)
        body = tell(
            viewers=self._registry.audience.viewers_of(name), whep_url=self._links.playback(request, name)
        )
        if self._outputs is not None and not isinstance(stream, EndedStream):
            body["gateway_status"]["outputs"] = self._outputs.status(stream)
        if self._funds is not None:
            body["gateway_status"]["funds"] = self._funds()
        body["gateway_status"]["usd"] = in_usd(body["gateway_status"], self._rate.current)
        if self._node:
            body["gateway_status"]["node"] = self._node
        return web.json_response(body, headers={"Cache-Control": "no-store"})


def in_usd(status: Json, rate: Fraction | None) -> Json | None:
    """What a stream costs in dollars, to a millionth; None without a rate, or where nothing is paid."""
    payments, orchestrator = status["payments"], status["orchestrator"]
    if rate is None or payments is None:
        return None
    price = None if orchestrator is None else orchestrator["price_wei_per_second"]

    def dollars(wei: str | None, times: int = 1) -> str | None:
        return None if wei is None else money.decimal(usd_of(Fraction(wei), rate) * times, 6)

    return {
        "eth_usd": money.decimal(rate, 6),
        "credited": dollars(payments["credited_wei"]),
        "owed": dollars(payments["owed_wei"]),
        "price_per_hour": dollars(price, money.SECONDS_PER_HOUR),
    }


def unknown_stream(request: web.Request) -> Problem:
    """No live stream has the name or id in the request's path."""
    name = request.match_info["stream"]
    return Problem(404, ProblemCode.UNKNOWN_STREAM, f"no live stream has the name or id {name[:140]!r}")
