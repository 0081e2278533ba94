"""Who may come in: the bearer tokens of RFC 6750, asked for by each route's own row."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web

from gateway.http.problem import Problem
from gateway.http.route import Route, Token
from gateway.http.tokens import Grant, TokenFile

GRANT: web.RequestKey[Grant] = web.RequestKey("grant", Grant)


class Access:
    """Guards routes with the files that the operator gave; a kind of token without a file guards nothing.

    `stream_name` gives the name of the stream that a path means by its id or one of its other forms.
    """

    def __init__(self, files: Mapping[Token, TokenFile], stream_name: Callable[[str], str]) -> None:
        self._files = files
        self._stream_name = stream_name

    @property
    def kinds(self) -> frozenset[Token]:
        """The kinds of token that are asked for."""
        return frozenset(self._files)

    def guard(self, request: web.Request, route: Route) -> None:
        """Raises Problem 401 without a known token, and 403 where it is not for this stream."""
        file = self._files.get(route.token) if route.token is not None else None
        if file is None:
            return
        grant = file.find(_bearer(request))
        if grant is None:
            raise Problem(
                401,
                "unauthorized",
                f"this takes a {route.token} token: send it as 'Authorization: Bearer TOKEN'",
                headers={"WWW-Authenticate": f'Bearer realm="{route.token}"'},
            )
        name = request.match_info["stream"]
        refuse_unless_allowed(grant, self._stream_name(name) if route.by_id else name)
        request[GRANT] = grant


def refuse_unless_allowed(grant: Grant, stream: str) -> None:
    if not grant.allows(stream):
        raise Problem(403, "forbidden", f"this token is not for the stream {stream[:140]!r}")


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
