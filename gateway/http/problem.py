"""Errors as RFC 9457 problem details: the form of every refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

log = structlog.get_logger("http")

PROBLEM_JSON = "application/problem+json"


class ProblemCode(StrEnum):
    """What a refusal is, for programs. The pages have words for each that they can get (messages.js)."""

    BAD_HTTP = "bad_http"
    BAD_JSON = "bad_json"
    BAD_NAME = "bad_name"
    BAD_OUTPUT = "bad_output"
    BAD_PARAMETER = "bad_parameter"
    BAD_PARAMS = "bad_params"
    BAD_SDP = "bad_sdp"
    BODY_TOO_SLOW = "body_too_slow"
    CLUSTER_AWAY = "cluster_away"
    CROSS_ORIGIN = "cross_origin"
    DRAINING = "draining"
    FORBIDDEN = "forbidden"
    ICE_RESTART = "ice_restart"
    IF_MATCH_FAILED = "if_match_failed"
    IF_MATCH_MISSING = "if_match_missing"
    INTERNAL_ERROR = "internal_error"
    ISSUER_UNREACHABLE = "issuer_unreachable"
    KEY_USED = "key_used"
    LEDGER_UNAVAILABLE = "ledger_unavailable"
    LIMIT_REACHED = "limit_reached"
    MAY_NOT_CHOOSE = "may_not_choose"
    MAY_NOT_OUTPUT = "may_not_output"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NAME_TAKEN = "name_taken"
    NODE_SILENT = "node_silent"
    NOT_FOUND = "not_found"
    NOBODY_SHOWS = "nobody_shows"
    NO_COMMON_CODEC = "no_common_codec"
    NO_HLS = "no_hls"
    NO_ORCHESTRATOR = "no_orchestrator"
    NO_UDP_PORT = "no_udp_port"
    NO_VIDEO = "no_video"
    OVERLOADED = "overloaded"
    RATE_UNKNOWN = "rate_unknown"
    REFUSED_BY_WEBHOOK = "refused_by_webhook"
    SIGNER_REFUSED = "signer_refused"
    SPEND_LIMIT = "spend_limit"
    TOO_LARGE = "too_large"
    TOO_MANY_REQUESTS = "too_many_requests"
    UNAUTHORIZED = "unauthorized"
    UNFUNDED = "unfunded"
    TOO_MANY_MODELS = "too_many_models"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_SESSION = "unknown_session"
    UNKNOWN_STREAM = "unknown_stream"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    WEBHOOK_UNREACHABLE = "webhook_unreachable"
    WRONG_HOST = "wrong_host"
    WORKER_BUSY = "worker_busy"
    WORKER_REFUSED = "worker_refused"
    WORKER_SILENT = "worker_silent"


class Problem(Exception):
    """A refusal: HTTP status, code (a ProblemCode), and a sentence that says what to do.

    `members` are further fields of the JSON.
    """

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
    """Turn refusals, aiohttp's errors and unexpected exceptions into problem details."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return _from_aiohttp(request, error).response()
    except ConnectionError:
        raise  # the client has gone
    except Exception:
        log.exception("request failed", method=request.method, path=request.path)
        detail = "the gateway failed on this request; its log has the error"
        return Problem(500, ProblemCode.INTERNAL_ERROR, detail).response()


def _from_aiohttp(request: web.Request, error: web.HTTPException) -> Problem:
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    match error.status:
        case 404:
            return Problem(404, ProblemCode.NOT_FOUND, f"nothing is served at {request.path}")
        case 405:
            allowed = headers.get("Allow", "")
            detail = f"{request.path} takes {allowed}"
            return Problem(405, ProblemCode.METHOD_NOT_ALLOWED, detail, headers=headers)
        case 413:
            return Problem(413, ProblemCode.TOO_LARGE, f"the body is too large: {error.text or 'send less'}")
        case status:
            code = HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")
            return Problem(status, code, error.text or error.reason, headers=headers)
