"""Sends requests from the server to itself, so that a batch's requests are handled in the same way as a client's."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message

from ecellm_lite.serve.keys import Key

# Marks such a request in its ASGI scope, which no client can set: access was checked when the batch was created.
TRUSTED = "ecellm_lite.trusted"


@dataclass(frozen=True, slots=True)
class Response:
    """A response: its HTTP status, the request's id, and the JSON value of the body."""

    status: int
    request_id: str
    body: Any


async def ask(app: ASGIApp, path: str, data: bytes, key: Key | None) -> Response:
    """Send a JSON body to the application by POST, with an API key, and return the response.

    If the call is cancelled, the request is cancelled too. Raises ValueError if the response's body is not JSON.
    """
    sent = [{"type": "http.request", "body": data, "more_body": False}]
    status, headers, pieces = 0, {}, []

    async def receive() -> Message:
        if sent:
            return sent.pop()
        await asyncio.Event().wait()  # this client never disconnects
        raise AssertionError

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], dict(message["headers"])
        else:
            pieces.append(message.get("body", b""))

    headers_sent = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers_sent,
        "client": None,
        "server": None,
        TRUSTED: key or True,
    }
    await app(scope, receive, send)
    return Response(status, headers.get(b"x-request-id", b"").decode(), json.loads(b"".join(pieces) or b"null"))
