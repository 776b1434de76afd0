"""One request and its response: an id, the common headers, a line in the log, and metrics."""

from __future__ import annotations

import json
import re
import secrets
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ecellm_lite.serve.errors import CLIENT_GONE, error_body
from ecellm_lite.serve.json_response import JsonResponse
from ecellm_lite.serve.keys import Key
from ecellm_lite.serve.log import log
from ecellm_lite.serve.metrics import Metrics

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

# The headers of a response, unless its route sets others.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Log = Callable[[Mapping[str, Any]], None]


@dataclass(slots=True)
class Exchange:
    """A request and its response.

    `started`: when the request began, in seconds of the monotonic clock.
    `key`: the client's API key.
    `rows`: how many rows the request has.
    `status`: the HTTP status of the response, or 0 until there is a response.
    """

    id: str
    started: float = field(default_factory=time.monotonic)
    key: Key | None = None
    rows: int = 0
    status: int = 0

    @property
    def owner(self) -> str | None:
        """The name of the request's API key, or None if the server has no keys.

        A file or batch belongs to the owner who made it. Other owners cannot see it.
        """
        return self.key.name if self.key else None


class Exchanges:
    """The outermost ASGI middleware. It gives each request an id and a log entry.

    An unexpected exception becomes a response with status 500. A log entry contains no text from the client: the
    route's pattern replaces the path, and the API key's name replaces the key.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, log: Log | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._log = log or _print

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id_ = Headers(scope=scope).get("x-request-id", "")
        exchange = Exchange(id_ if _ID.fullmatch(id_) else secrets.token_hex(12))
        scope.setdefault("state", {})["exchange"] = exchange

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = exchange.id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception as error:  # noqa: BLE001 - a bug must not end the connection's other requests
            _report(error, exchange)
            if not exchange.status:
                message = "A bug in ecellm-lite: the server's log says where, under this request's id."
                await JsonResponse(error_body(500, "internal", message), 500)(scope, receive, answer)
        finally:
            self._close(scope, exchange)

    def _close(self, scope: Scope, exchange: Exchange) -> None:
        seconds = time.monotonic() - exchange.started
        route = getattr(scope.get("route"), "path", None) or "none"
        status = exchange.status or CLIENT_GONE
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        self._log(
            {
                "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                "id": exchange.id,
                "method": scope["method"] if scope["method"] in _METHODS else "other",
                "route": route,
                "status": status,
                "ms": round(1000 * seconds, 1),
                "rows": exchange.rows,
                "key": exchange.key.name if exchange.key else None,
            }
        )


_METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}


def exchange_of(request: Request) -> Exchange:
    """Return the Exchange of a request: its id, its API key and what is logged about it."""
    return cast("Exchange", request.scope["state"]["exchange"])


def _print(line: Mapping[str, Any]) -> None:
    log(json.dumps(line))


def _report(error: Exception, exchange: Exchange) -> None:
    """Print where an exception was raised. Its message is not printed, because it may contain a row's text."""
    frames = "".join(traceback.format_tb(error.__traceback__)[-6:])
    kind = f"{type(error).__name__} {error.strerror}" if isinstance(error, OSError) else type(error).__name__
    log(f"Request {exchange.id}: {kind}\n{frames}")
