"""HLS: playlists and segments, for any number of viewers and for the caches between."""

from __future__ import annotations

from aiohttp import web

from gateway.http.access import GRANT
from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import Route, Token
from gateway.http.sessions import STREAM, checked
from gateway.outputs.hls_streams import HlsStreams, NoHls

PLAYLIST = "application/vnd.apple.mpegurl"
FOR_EVER = "max-age=31536000, immutable"


class HlsRoutes:
    """`{stream}` is a stream's name."""

    def __init__(self, streams: HlsStreams) -> None:
        self._streams = streams

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                STREAM + "/index.m3u8",
                self.playlist,
                "watch by HLS: the playlist of the newest segments",
                {
                    200: "the playlist",
                    400: "the name or _HLS_msn is invalid",
                    404: "no such stream is live",
                    503: "it has no picture yet, or too many streams are watched so",
                },
                gives=PLAYLIST,
                token=Token.PLAY,
                query={"_HLS_msn": "answer once this segment is there (blocking playlist reload)"},
            ),
            Route(
                "GET",
                STREAM + "/hls/{file}",
                self.file,
                "a file that the playlist names",
                {200: "the file", 404: "it is not there, or no more"},
                gives="video/mp4",
                token=Token.PLAY,
            ),
        ]

    async def playlist(self, request: web.Request) -> web.Response:
        number = request.query.get("_HLS_msn")
        if number is not None and not (number.isdecimal() and len(number) <= 12):
            raise Problem(400, ProblemCode.BAD_PARAMETER, "_HLS_msn is the number of a segment")
        name = checked(request.match_info["stream"])
        try:
            text = await self._streams.playlist(name, None if number is None else int(number))
        except NoHls as error:
            if error.busy:
                headers = {"Retry-After": "1"}
                raise Problem(503, ProblemCode.NO_HLS, str(error), headers=headers) from error
            raise Problem(404, ProblemCode.UNKNOWN_STREAM, str(error)) from error
        return web.Response(
            text=text, content_type=PLAYLIST, headers={"Cache-Control": f"{_shared(request)}, max-age=1"}
        )

    async def file(self, request: web.Request) -> web.Response:
        data = self._streams.file(request.match_info["stream"], request.match_info["file"])
        if data is None:
            detail = "this file is not there any more: ask for the playlist again"
            raise Problem(404, ProblemCode.NOT_FOUND, detail, headers={"Cache-Control": "max-age=1"})
        headers = {"Cache-Control": f"{_shared(request)}, {FOR_EVER}"}
        return web.Response(body=data, content_type="video/mp4", headers=headers)


def _shared(request: web.Request) -> str:
    """Whether caches may give it to others: not where a token was asked for."""
    return "private" if GRANT in request else "public"
