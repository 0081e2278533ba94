"""Reads request bodies, bounded in size and time: JSON objects, and SDP with its content type."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.aio.bodies import BodyTooLarge, read_bounded
from gateway.aio.json_text import parse_json
from gateway.http.problem import Problem, ProblemCode
from gateway.http.route import SDP, SDP_FRAGMENT

MAX_SDP_BYTES = 64 * 1024
MAX_JSON_BYTES = 1024 * 1024
BODY_TIMEOUT = 10.0
"""Seconds that a body may take to arrive."""


@web.middleware
async def refuse_compressed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 415 to a body with a Content-Encoding, and close the connection without reading it."""
    encoding = request.headers.get("Content-Encoding", "")
    if encoding.strip().lower() in {"", "identity"}:
        return await handler(request)
    response = Problem(
        415,
        ProblemCode.UNSUPPORTED_MEDIA_TYPE,
        "compressed bodies are not taken: send it without Content-Encoding",
        headers={"Accept-Encoding": "identity", "Connection": "close"},
    ).response()
    await response.prepare(request)
    await response.write_eof()
    request.protocol.force_close()
    return response


BODY = web.RequestKey("body", bytes)
"""The body of a request that was read before it was known who serves it."""


async def read_body(request: web.Request, limit: int, timeout: float = BODY_TIMEOUT) -> bytes:
    """The whole body. Raises Problem 413 above `limit` bytes and 408 after `timeout` seconds."""
    if BODY in request:
        if len(request[BODY]) > limit:
            raise _too_large(limit)
        return request[BODY]
    if request.content_length is not None and request.content_length > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(timeout):
            return await read_bounded(request, limit)
    except BodyTooLarge:
        raise _too_large(limit) from None
    except TimeoutError as error:
        detail = f"the body did not arrive within {timeout:g} s"
        raise Problem(408, ProblemCode.BODY_TOO_SLOW, detail) from error


async def read_sdp(request: web.Request) -> str:
    """An SDP offer. Raises Problem 415 for another content type, 400 for an empty body or bad UTF-8."""
    return await _read_text(request, SDP, "an SDP offer", "Accept-Post")


async def read_sdp_fragment(request: web.Request) -> str:
    """Trickled candidates (RFC 8840). Raises Problem as `read_sdp` does."""
    return await _read_text(request, SDP_FRAGMENT, "an SDP fragment", "Accept-Patch")


async def _read_text(request: web.Request, content_type: str, what: str, accept: str) -> str:
    if request.content_type != content_type:
        raise Problem(
            415,
            ProblemCode.UNSUPPORTED_MEDIA_TYPE,
            f"the body is {request.content_type!r}: send {what} as {content_type}",
            headers={accept: content_type, "Accept": content_type},
        )
    body = await read_body(request, MAX_SDP_BYTES)
    if not body.strip():
        raise Problem(400, ProblemCode.BAD_SDP, f"the body is empty: send {what}")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Problem(400, ProblemCode.BAD_SDP, f"the body is not UTF-8 text: send {what}") from error


async def read_json_object(request: web.Request, timeout: float = BODY_TIMEOUT) -> dict[str, Any]:
    """A body that is a JSON object. Raises Problem 400, 408 or 413."""
    return parse_json_object(await read_body(request, MAX_JSON_BYTES, timeout), "the body")


def parse_json_object(text: str | bytes, what: str) -> dict[str, Any]:
    """A JSON object. Raises Problem 400; `what` names the text in its detail."""
    try:
        value = parse_json(text)
    except ValueError as error:
        raise Problem(400, ProblemCode.BAD_JSON, f"{what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Problem(400, ProblemCode.BAD_JSON, f"{what} is JSON, but not an object such as {{}}")
    return value


def _too_large(limit: int) -> Problem:
    return Problem(413, ProblemCode.TOO_LARGE, f"the body is larger than {limit} bytes")
