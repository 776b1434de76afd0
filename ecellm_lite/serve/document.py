"""The OpenAPI document: which errors each route can return, and how a client sends its API key."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from fastapi import FastAPI
from pydantic import BaseModel, Field

# The routes' `responses`, in FastAPI's form.
Responses: TypeAlias = dict[int | str, dict[str, Any]]


class Fault(BaseModel):
    """What is wrong with a request."""

    message: str
    type: Literal[
        "authentication_error", "invalid_request_error", "permission_error", "rate_limit_error", "server_error"
    ]
    param: str | None = Field(description="The place of the fault in the body, such as rows.3.review.")
    code: str = Field(description="A stable code.")


class Mismatch(BaseModel):
    """A value in the request's body that does not have the expected form."""

    loc: list[str | int]
    msg: str
    type: str


class Refusal(BaseModel):
    """The body of an error response, in OpenAI's format.

    `detail` lists the values that do not have the expected form.
    """

    error: Fault
    detail: list[Mismatch] = Field(default=[], max_length=20)


_WHEN = {
    400: "The request is not valid HTTP or JSON, or uses something that this server does not support",
    401: "No valid API key",
    403: "The request comes from a web page of another site",
    404: "It does not exist",
    408: "The body did not arrive in time",
    409: "It has already ended",
    413: "The body, or the text in it, is too large",
    415: "The body has the wrong type, or a compression other than zstd",
    421: "The Host header names another server",
    422: "A value is invalid",
    429: "The queue is full",
    431: "The headers are too large",
    500: "An error of this server",
    503: "The engine is being restarted",
    504: "The deadline has passed",
    507: "The disk is full, or the model takes more memory than all models may have",
}
_SECONDS = {"description": "Seconds to wait before the next request.", "schema": {"type": "integer", "minimum": 1}}
_WAITING = (429, 503)

# Statuses that routes have in common: with a JSON body, and with rows for the engine.
BODY = (408, 413, 415, 422)
ROWS = (*BODY, 429, 503, 504, 507)
_EVERY = (400, 401, 403, 421, 431, 500)


def errors(*statuses: int) -> Responses:
    """Return descriptions of the error responses with these statuses, for the OpenAPI document."""
    return {
        status: {
            "model": Refusal,
            "description": _WHEN[status],
            **({"headers": {"Retry-After": _SECONDS}} if status in _WAITING else {}),
        }
        for status in sorted(statuses)
    }


def replies(model: Any, *statuses: int, stream: bool = False) -> Responses:
    """Return descriptions of a route's responses for the OpenAPI document: success (200), and errors with `statuses`.

    `model`: the body of a successful response.
    `stream`: whether the response may also be a stream of server-sent events.
    """
    events: dict[str, Any] = {"content": {"text/event-stream": {}}} if stream else {}
    return {200: {"model": model, "description": "Done", **events}, **errors(*statuses)}


class Application(FastAPI):
    """An application whose OpenAPI document lists the errors of every route.

    `with_keys`: whether clients need an API key. If so, the document lists the ways to send it.
    """

    def __init__(self, *, with_keys: bool, **options: Any) -> None:
        super().__init__(responses=errors(*_EVERY), **options)
        self._with_keys = with_keys

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        if self._with_keys and "security" not in document:
            document["security"] = [{name: []} for name in _SCHEMES]
            document.setdefault("components", {})["securitySchemes"] = _SCHEMES
            document["paths"]["/health"]["get"]["security"] = []
        return document


_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "basic": {"type": "http", "scheme": "basic", "description": "For browsers: the password is the key."},
}
