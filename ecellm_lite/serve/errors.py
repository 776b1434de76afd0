"""Errors as HTTP responses: a status, and a body in OpenAI's format."""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from ecellm_lite.answers.answer import RowError
from ecellm_lite.errors import EcellmError
from ecellm_lite.serve.json_response import JsonResponse

# The HTTP status of an error, by its code; errors that the client can correct have 422.
_STATUSES = {
    "closed": HTTPStatus.SERVICE_UNAVAILABLE,
    "context_exceeded": HTTPStatus.UNPROCESSABLE_ENTITY,
    "crashed": HTTPStatus.INTERNAL_SERVER_ERROR,
    "deadline": HTTPStatus.GATEWAY_TIMEOUT,
    "grammar": HTTPStatus.UNPROCESSABLE_ENTITY,
    "input": HTTPStatus.UNPROCESSABLE_ENTITY,
    "model": HTTPStatus.SERVICE_UNAVAILABLE,
    "protocol": HTTPStatus.UNPROCESSABLE_ENTITY,
    "usage": HTTPStatus.UNPROCESSABLE_ENTITY,
}
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

# nginx's status for a client that closed its connection; only the log and the metrics show it.
CLIENT_GONE = 499


class RefusedError(EcellmError):
    """The server refuses a request.

    `status` is the HTTP status, and `reason` a code that does not change between versions.
    """

    code = "refused"
    exit_code = 3

    def __init__(
        self, status: int, reason: str, message: str, *, headers: Mapping[str, str] | None = None, **place: Any
    ) -> None:
        super().__init__(message, **place)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


class GoneError(EcellmError):
    """The client closed its connection before its answer was ready."""

    code = "client_gone"


def status_of(code: str) -> int:
    """Return the HTTP status for an error code."""
    return int(_STATUSES.get(code, HTTPStatus.INTERNAL_SERVER_ERROR))


def error_body(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """Return the body of an error response in OpenAI's format.

    `param` is the path of the wrong value in the request.
    """
    kind = _TYPES.get(status, "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_response(error: EcellmError) -> Response:
    """Return the HTTP response for an error."""
    if isinstance(error, GoneError):
        return Response(status_code=CLIENT_GONE)
    if isinstance(error, RefusedError):
        body = error_body(error.status, error.reason, str(error), error.field)
        return JsonResponse(body, error.status, error.headers)
    status = status_of(error.code)
    headers = {"Retry-After": "5"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return JsonResponse(error_body(status, error.code, str(error), error.field), status, headers)


def row_error_response(error: RowError, place: str) -> Response:
    """Return the response to a request whose only row failed.

    `place` is the path of the row in the request's body.
    """
    status = status_of(error.code)
    param = f"{place}.{error.field}" if error.field else place
    return JsonResponse(error_body(status, error.code, error.message, param), status)


def is_disk_full(error: OSError) -> bool:
    """Return whether a write failed because the disk is full, or because it is read-only."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def retry_after(seconds: float) -> dict[str, str]:
    """Return a Retry-After header: the time to wait, as a whole number of seconds from 1 to 60."""
    return {"Retry-After": str(min(60, max(1, math.ceil(seconds))))}
