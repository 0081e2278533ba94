"""What WHIP's and WHEP's sessions have in common: the headers of a 201, PATCH, and how offers are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict

from gateway.http.bodies import read_sdp_fragment
from gateway.http.forwarding import Forwarding
from gateway.http.problem import Problem
from gateway.http.route import SDP_FRAGMENT, Route, Token
from gateway.stream.names import BadName, check_name
from gateway.stream.quotas import LimitReached
from gateway.webrtc.errors import OfferRefused
from gateway.webrtc.ice_servers import IceServer
from gateway.webrtc.peer import Peer

PREFIX = "/live/video-to-video"
STREAM = PREFIX + "/{stream}"
RETRY_AFTER_LIMIT = 5
"""Seconds after which one who met a limit should ask again."""

POST_REFUSED = {
    400: "the offer or a parameter is not understood",
    406: "the offer has no codec that is accepted; the detail names those",
    408: "the body came too slowly",
    413: "the body is too large",
    415: "the body is not application/sdp",
    429: "a limit is reached, or requests come too fast",
}
PATCH_REFUSED = {
    400: "the fragment is not understood",
    404: "no such session",
    408: "the body came too slowly",
    412: "If-Match names another ICE session",
    413: "the body is too large",
    415: "the body is not application/trickle-ice-sdpfrag",
    422: "an ICE restart, which is not supported: make a new session",
    428: "If-Match is missing",
}
_OFFER_STATUS = {"no_common_codec": 406, "ice_restart": 422, "no_udp_port": 503}


@dataclass(frozen=True)
class Links:
    """What a session's URLs and its Link headers are made of."""

    forwarding: Forwarding
    ice_servers: Sequence[IceServer] = ()

    def created(
        self, request: web.Request, location: str, etag: str, more: Mapping[str, str] | None = None
    ) -> CIMultiDict[str]:
        """The headers of a 201 (RFC 9725, 4.2 and 4.6)."""
        headers = CIMultiDict(more or {})
        headers["Location"] = self.forwarding.link(request, location)
        headers["ETag"] = etag
        headers["Accept-Patch"] = SDP_FRAGMENT
        for server in self.ice_servers:
            headers.add("Link", server.link)
        return headers

    def playback(self, request: web.Request, name: str) -> str:
        """Where the stream of this name is watched."""
        return self.forwarding.link(request, f"{PREFIX}/{name}/whep")


def session_routes(path: str, token: Token, who: str, patch: Handler, delete: Handler) -> list[Route]:
    """What a Location takes, below the `path` that made it for `who`: PATCH with candidates, and DELETE."""
    location = path + "/{session}"
    return [
        Route(
            "PATCH",
            location,
            patch,
            f"more candidates of a {who} (RFC 9725, 4.3)",
            {204: "taken", **PATCH_REFUSED},
            takes=SDP_FRAGMENT,
            gives=None,
            token=token,
        ),
        Route(
            "DELETE",
            location,
            delete,
            f"the end of a {who}'s session",
            {200: "stopped, or was not there"},
            gives=None,
            token=token,
        ),
    ]


async def trickle(request: web.Request, peer: Peer | None) -> web.Response:
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
        raise offer_refused(error) from error
    return web.Response(status=204)


def checked(name: str, what: str = "stream name") -> str:
    """A name out of a path or query. Raises Problem 400 where it is none."""
    try:
        return check_name(name, what)
    except BadName as error:
        raise Problem(400, "bad_name", str(error)) from error


def offer_refused(error: OfferRefused) -> Problem:
    return Problem(_OFFER_STATUS.get(error.code, 400), error.code, error.detail)


def limit_reached(error: LimitReached) -> Problem:
    headers = {"Retry-After": str(RETRY_AFTER_LIMIT)}
    return Problem(429, "limit_reached", str(error), headers=headers, limit=error.claim.limit)
