"""Access control by bearer tokens (RFC 6750). Each route says which kind of token it asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web

from gateway.http.jwks import KeysUnreachable
from gateway.http.jwt_tokens import BadJwt, JwtTokens
from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import Route, Token
from gateway.http.tokens import Grant, TokenFile

OF_STREAMS = frozenset({Token.PUBLISH, Token.PLAY})
"""The kinds that a JSON Web Token may be of."""
GRANT: web.RequestKey[Grant] = web.RequestKey("grant", Grant)


class Access:
    """Checks each request's token: by the operator's files, or by what a JSON Web Token says.

    A kind without a file is not asked for; with `jwt` both kinds are that are for streams. `stream_name`
    gives the stream's name for a name, an id or another form in a path.
    """

    def __init__(
        self,
        files: Mapping[Token, TokenFile],
        stream_name: Callable[[str], str],
        jwt: JwtTokens | None = None,
    ) -> None:
        self._files = files
        self._stream_name = stream_name
        self._jwt = jwt

    @property
    def kinds(self) -> frozenset[Token]:
        """The kinds of token that are asked for."""
        return frozenset(self._files) | (OF_STREAMS if self._jwt is not None else frozenset())

    async def guard(self, request: web.Request, route: Route) -> None:
        """Raises Problem 401 for a token that opens nothing or none, 403 for one of other streams."""
        if route.token is None or route.token not in self.kinds:
            return
        grant = await self._grant(_bearer(request), route.token)
        name = request.match_info.get("stream")
        if name is not None:
            refuse_unless_allowed(grant, self._stream_name(name) if route.by_id else name)
        request[GRANT] = grant

    async def _grant(self, token: str, kind: Token) -> Grant:
        file = self._files.get(kind)
        grant = None if file is None else file.find(token)
        if grant is not None:
            return grant
        why = "send 'Authorization: Bearer TOKEN'"
        if self._jwt is not None and kind in OF_STREAMS and token.count(".") == 2:
            try:
                return await self._jwt.grant(token, kind)
            except BadJwt as error:
                why = f"the one that was sent opens nothing: {error}"
            except KeysUnreachable as error:
                retry = {"Retry-After": "10"}
                raise Problem(503, ProblemCode.ISSUER_UNREACHABLE, str(error), headers=retry) from error
        raise Problem(
            401,
            ProblemCode.UNAUTHORIZED,
            f"this route asks for a {kind} token: {why}",
            headers={"WWW-Authenticate": f'Bearer realm="{kind}"'},
        )

    async def holder(self, request: web.Request) -> Grant | None:
        """Whose token of a file a request has, to look at its usage; None without a token of any kind.

        Raises Problem 401 for a token that is in no file, or for watching only.
        """
        token = _bearer(request)
        if not token:
            return None
        for kind in (Token.PUBLISH, Token.API):
            file = self._files.get(kind)
            grant = None if file is None else file.find(token)
            if grant is not None:
                return grant
        raise Problem(401, ProblemCode.UNAUTHORIZED, "nobody who publishes here has this token")


def refuse_unless_allowed(grant: Grant, stream: str) -> None:
    if not grant.allows(stream):
        raise Problem(403, ProblemCode.FORBIDDEN, f"this token is not for the stream {stream[:140]!r}")


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
