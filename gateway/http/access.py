"""Access control by bearer tokens (RFC 6750). Each route says which kind of token it asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web

from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import Route, Token
from gateway.http.tokens import Grant, TokenFile

GRANT: web.RequestKey[Grant] = web.RequestKey("grant", Grant)


class Access:
    """Checks each request's token against the operator's files. A kind without a file is not asked for.

    `stream_name` gives the stream's name for a name, an id or another form in a path.
    """

    def __init__(self, files: Mapping[Token, TokenFile], stream_name: Callable[[str], str]) -> None:
        self._files = files
        self._stream_name = stream_name

    @property
    def kinds(self) -> frozenset[Token]:
        """The kinds of token that are asked for."""
        return frozenset(self._files)

    def guard(self, request: web.Request, route: Route) -> None:
        """Raises Problem 401 for an unknown or missing token, 403 for a token of other streams."""
        file = self._files.get(route.token) if route.token is not None else None
        if file is None:
            return
        grant = file.find(_bearer(request))
        if grant is None:
            raise Problem(
                401,
                ProblemCode.UNAUTHORIZED,
                f"this route asks for a {route.token} token: send 'Authorization: Bearer TOKEN'",
                headers={"WWW-Authenticate": f'Bearer realm="{route.token}"'},
            )
        name = request.match_info["stream"]
        refuse_unless_allowed(grant, self._stream_name(name) if route.by_id else name)
        request[GRANT] = grant

    def holder(self, request: web.Request) -> Grant | None:
        """Who sent a request to publish or to look, by the token; None without a token of any kind.

        Raises Problem 401 for a token that is in no file, or for watching only.
        """
        token = _bearer(request)
        if not token:
            return None
        file = self._files.get(Token.PUBLISH)
        grant = None if file is None else file.find(token)
        if grant is None:
            raise Problem(401, ProblemCode.UNAUTHORIZED, "nobody who publishes here has this token")
        return grant


def refuse_unless_allowed(grant: Grant, stream: str) -> None:
    if not grant.allows(stream):
        raise Problem(403, ProblemCode.FORBIDDEN, f"this token is not for the stream {stream[:140]!r}")


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
