"""What WHIP and WHEP share: the headers of a 201, PATCH and DELETE of a session, refusals."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict

from gateway.http.bodies import read_sdp_fragment
from gateway.http.forwarding import Forwarding
from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import SDP_FRAGMENT, Route, Token
from gateway.stream.admission import RETRY_AFTER, NotAdmitted
from gateway.stream.names import BadName, check_name
from gateway.stream.quotas import LimitReached
from gateway.webrtc.errors import OfferRefused
from gateway.webrtc.ice_servers import IceServer
from gateway.webrtc.peer import Peer

PREFIX = "/live/video-to-video"
STREAM = PREFIX + "/{stream}"
RETRY_AFTER_LIMIT = 5
"""Retry-After of a limit that is reached, in seconds."""

POST_REFUSED = {
    400: "the offer or a parameter is invalid",
    406: "the offer has no codec that the gateway takes; the detail names those",
    408: "the body took too long",
    413: "the body is too large",
    415: "the body is not application/sdp",
    429: "a limit is reached, or there are too many requests",
}
PATCH_REFUSED = {
    400: "the fragment is invalid",
    404: "no such session",
    408: "the body took too long",
    412: "If-Match names another ICE session",
    413: "the body is too large",
    415: "the body is not application/trickle-ice-sdpfrag",
    422: "ICE restarts are not supported: create a new session",
    428: "If-Match is missing",
}
_OFFER_STATUS = {"no_common_codec": 406, "ice_restart": 422, "no_udp_port": 503}


@dataclass(frozen=True)
class Links:
    """Makes the URLs and the headers of sessions."""

    forwarding: Forwarding
    ice_servers: Sequence[IceServer] = ()
    node: str = ""
    """This node's name; empty where there is no cluster."""

    def created(
        self, request: web.Request, location: str, etag: str, more: Mapping[str, str] | None = None
    ) -> CIMultiDict[str]:
        """The headers of a 201 (RFC 9725, 4.2 and 4.6)."""
        headers = CIMultiDict(more or {})
        headers["Location"] = self.forwarding.link(request, location)
        headers["ETag"] = etag
        headers["Accept-Patch"] = SDP_FRAGMENT
        if self.node:
            headers["Livepeer-Node"] = self.node
        for server in self.ice_servers:
            headers.add("Link", server.link(time.time()))
        return headers

    def playback(self, request: web.Request, name: str) -> str:
        """The WHEP URL of this stream name."""
        return self.forwarding.link(request, f"{PREFIX}/{name}/whep")


def session_routes(
    path: str,
    token: Token,
    who: str,
    patch: Handler,
    delete: Handler,
    delete_query: Mapping[str, str] | None = None,
) -> list[Route]:
    """PATCH and DELETE for the sessions that a POST to `path` creates; `who` is the peer, for summaries."""
    location = path + "/{session}"
    return [
        Route(
            "PATCH",
            location,
            patch,
            f"add ICE candidates of a {who} (RFC 9725, 4.3)",
            {204: "added", **PATCH_REFUSED},
            takes=SDP_FRAGMENT,
            gives=None,
            token=token,
        ),
        Route(
            "DELETE",
            location,
            delete,
            f"end a {who}'s session",
            {
                200: "ended, or there was none",
                **({400: "a query parameter is wrong"} if delete_query else {}),
            },
            gives=None,
            token=token,
            query=delete_query or {},
        ),
    ]


async def trickle(request: web.Request, peer: Peer | None) -> web.Response:
    """PATCH with candidates (RFC 9725, 4.3.2). ICE restarts are refused as 4.3.1 asks: 422."""
    if peer is None:
        raise Problem(
            404, ProblemCode.UNKNOWN_SESSION, "there is no such session: it has ended, or never existed"
        )
    matches = request.headers.get("If-Match")
    if matches is None:
        raise Problem(428, ProblemCode.IF_MATCH_MISSING, "send If-Match with the ETag of the 201")
    fragment = await read_sdp_fragment(request)
    if matches.strip() != "*" and peer.etag not in [one.strip() for one in matches.split(",")]:
        raise Problem(412, ProblemCode.IF_MATCH_FAILED, "If-Match does not hold the ETag of this session")
    try:
        await peer.trickle(fragment)
    except OfferRefused as error:
        raise offer_refused(error) from error
    return web.Response(status=204)


def checked(name: str, what: str = "stream name") -> str:
    """`name` from a path or query, valid. Raises Problem 400."""
    try:
        return check_name(name, what)
    except BadName as error:
        raise Problem(400, ProblemCode.BAD_NAME, str(error)) from error


def offer_refused(error: OfferRefused) -> Problem:
    return Problem(_OFFER_STATUS.get(error.code, 400), error.code, error.detail)


def not_admitted(error: NotAdmitted) -> Problem:
    return Problem(503, error.code, str(error), headers={"Retry-After": str(RETRY_AFTER)})


def limit_reached(error: LimitReached) -> Problem:
    headers = {"Retry-After": str(RETRY_AFTER_LIMIT)}
    return Problem(429, ProblemCode.LIMIT_REACHED, str(error), headers=headers, limit=error.claim.limit)
