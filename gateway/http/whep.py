"""WHEP (draft-ietf-wish-whep): viewers."""

from __future__ import annotations

import secrets

from aiohttp import web

from gateway.http.access import GRANT
from gateway.http.bodies import read_sdp
from gateway.http.limits import ClientLimits
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
from gateway.stream.admission import NotAdmitted
from gateway.stream.quotas import LimitReached
from gateway.stream.registry import StreamRegistry
from gateway.webrtc.errors import OfferRefused

WHEP = STREAM + "/whep"


class WhepRoutes:
    """Creates, updates and ends viewers' sessions. A viewer may come before the publisher.

    Their ids begin with `node_tag`, by which other nodes of a cluster know where a viewer is served.
    """

    def __init__(
        self, registry: StreamRegistry, links: Links, limits: ClientLimits, *, node_tag: str = ""
    ) -> None:
        self._registry = registry
        self._links = links
        self._limits = limits
        self._id_prefix = f"{node_tag}-" if node_tag else ""

    def routes(self) -> list[Route]:
        return [
            Route(
                "POST",
                WHEP,
                self.watch,
                "watch a stream (WHEP); also before it has a publisher",
                {
                    201: "the answer, with Location, ETag and Link",
                    503: "the gateway is overloaded",
                    **POST_REFUSED,
                },
                takes=SDP,
                gives=SDP,
                token=Token.PLAY,
                by_id=True,
            ),
            *session_routes(WHEP, Token.PLAY, "viewer", self.trickle, self.unwatch),
        ]

    async def watch(self, request: web.Request) -> web.Response:
        path_name = request.match_info["stream"]
        name = checked(self._registry.watched_name(path_name))
        offer = await read_sdp(request)
        viewer_id = self._id_prefix + secrets.token_hex(16)
        claims = self._limits.on_viewer(name, self._links.forwarding.client(request), request.get(GRANT))
        try:
            viewer = await self._registry.audience.watch(name, viewer_id, offer, claims)
        except NotAdmitted as error:
            raise not_admitted(error) from error
        except LimitReached as error:
            raise limit_reached(error) from error
        except OfferRefused as error:
            raise offer_refused(error) from error
        return web.Response(
            status=201,
            body=viewer.answer.encode(),
            content_type=SDP,
            headers=self._links.created(request, f"{PREFIX}/{name}/whep/{viewer_id}", viewer.etag),
        )

    async def unwatch(self, request: web.Request) -> web.Response:
        await self._registry.audience.stop(request.match_info["stream"], request.match_info["session"])
        return web.Response()

    async def trickle(self, request: web.Request) -> web.Response:
        viewer = self._registry.audience.find(request.match_info["stream"], request.match_info["session"])
        return await trickle(request, viewer)
