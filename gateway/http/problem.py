"""Errors as RFC 9457 problem details, the one form in which this gateway refuses a request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

log = structlog.get_logger("http")

PROBLEM_JSON = "application/problem+json"


class Problem(Exception):
    """A refusal: an HTTP status, a code for programs and a sentence that says what to do."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def response(self) -> web.Response:
        body = {
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.members,
        }
        return web.Response(
            status=self.status,
            body=json.dumps(body).encode(),
            content_type=PROBLEM_JSON,
            headers=self.headers,
        )


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn refusals, aiohttp's own errors and mistakes of ours into problem details."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return _from_aiohttp(request, error).response()
    except ConnectionError:
        raise  # nobody is there to be told
    except Exception:
        log.exception("request failed", method=request.method, path=request.path)
        detail = "the gateway made a mistake with this request; its log says which"
        return Problem(500, "internal_error", detail).response()


def _from_aiohttp(request: web.Request, error: web.HTTPException) -> Problem:
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    match error.status:
        case 404:
            return Problem(404, "not_found", f"there is nothing at {request.path}")
        case 405:
            allowed = headers.get("Allow", "")
            return Problem(405, "method_not_allowed", f"{request.path} takes {allowed}", headers=headers)
        case 413:
            return Problem(413, "too_large", f"the body is too large: {error.text or 'send less'}")
        case status:
            code = HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")
            return Problem(status, code, error.text or error.reason, headers=headers)
