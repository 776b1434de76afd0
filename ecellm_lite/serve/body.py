"""Reads request bodies: JSON of limited size, plain or compressed with zstd, within a time limit."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from ecellm_lite.serve.errors import GoneError, RefusedError
from ecellm_lite.serve.limits import Limits
from ecellm_lite.serve.service import service_of
from ecellm_lite.serve.strict_json import read_strictly

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# 8 MiB, what a decoder must support (RFC 8878): more would let a small body take more memory.
_WINDOW = {int(zstd.DecompressionParameter.window_log_max): 23}


class JsonRequest(Request):
    """A request whose body must be JSON within the server's limits."""

    async def body(self) -> bytes:
        """Return the decompressed body. Raises RefusedError (400, 408, 413 or 415) if the body is not accepted."""
        if not hasattr(self, "_body"):
            self._body = await read_body(self, service_of(self).limits)
        return self._body

    async def json(self) -> Any:
        """Return the body's JSON value.

        Raises RefusedError (400) for invalid JSON. Also raises the errors of the method `body`.
        """
        if not hasattr(self, "_json"):
            self._json = read_strictly(await self.body())
        return self._json


class JsonRoute(APIRoute):
    """A route that checks the request's JSON body before its own code runs."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return a handler that reads and checks the body before the route's own code runs."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            checked = JsonRequest(request.scope, request.receive)
            if self.body_field:
                await checked.json()
            return await handler(checked)

        return handle


async def read_body(request: Request, limits: Limits, expected: str = "application/json") -> bytes:
    """Return the decompressed body. Raises RefusedError (400, 408, 413 or 415) if the body is not accepted."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != expected:
        message = f"The body's Content-Type is {kind[:80]!r}" if kind else "The body has no Content-Type"
        raise RefusedError(415, "content_type", message, step=f"send {expected}")
    packing = request.headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("identity", "zstd"):
        message = f"The body's Content-Encoding is {packing[:80]!r}"
        raise RefusedError(
            415, "content_encoding", message, step="send it plain or as zstd", headers={"Accept-Encoding": "zstd"}
        )
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > limits.body_bytes:
        raise _too_large(limits)
    try:
        data = await asyncio.wait_for(_all(request, limits), limits.body_seconds)
    except ClientDisconnect:
        raise GoneError("The client closed its connection") from None
    except asyncio.TimeoutError:
        message = f"The body did not arrive within {limits.body_seconds:g} s"
        raise RefusedError(408, "slow_body", message, step="send it faster", headers={"Connection": "close"}) from None
    return _unpacked(data, limits) if packing == "zstd" else data


async def _all(request: Request, limits: Limits) -> bytes:
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > limits.body_bytes:
            raise _too_large(limits)
    return bytes(data)


def _unpacked(data: bytes, limits: Limits) -> bytes:
    decompressor = zstd.ZstdDecompressor(options=_WINDOW)
    try:
        unpacked = decompressor.decompress(data, limits.body_bytes + 1)
    except (zstd.ZstdError, EOFError, ValueError) as error:
        raise RefusedError(400, "invalid_zstd", f"The body is not zstd ({error})", step="send it plain") from None
    if len(unpacked) > limits.body_bytes:
        raise _too_large(limits)
    if not decompressor.eof or decompressor.unused_data:
        raise RefusedError(400, "invalid_zstd", "The body is not exactly one complete zstd frame", step="send it plain")
    return bytes(unpacked)


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(
        413,
        "body_too_large",
        f"The body has more than {limits.body_bytes:,} bytes",
        step="send fewer rows at a time, or shorter ones",
    )
