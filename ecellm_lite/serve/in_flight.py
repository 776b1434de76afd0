"""Lets identical requests that are in progress share one answer.

A client may give up and repeat its request. The repeated request then gets the answer that was begun for the first one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request

from ecellm_lite.serve.errors import GoneError
from ecellm_lite.serve.exchange import exchange_of

Result = TypeVar("Result")

# Seconds that work goes on without a client: TypeSafe's client gives up after 10 s, and asks again a little later.
GRACE = 10.0


@dataclass(slots=True, eq=False)
class _Work:
    task: asyncio.Task[Any]
    waiting: int = 0
    grace: asyncio.TimerHandle | None = None


class InFlight:
    """The requests that are being computed. Two requests are identical if their API key, path and body are equal.

    `grace`: how many seconds the work on a request continues after all clients that waited for it have left.

    Use it only in the event loop's thread.
    """

    def __init__(self, grace: float = GRACE) -> None:
        self._works: dict[bytes, _Work] = {}
        self._grace = grace

    def __len__(self) -> int:
        return len(self._works)

    async def share(self, request: Request, make: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Return the result of `make`. If an identical request is in progress, wait for its result instead.

        Raises GoneError if the client closes its connection before the result is ready. If no other client waits for
        the result, the work is cancelled some seconds later.
        """
        key = await _key(request)
        work = self._works.get(key)
        if work is None:
            work = self._works[key] = _Work(asyncio.create_task(make()))
        work.waiting += 1
        if work.grace:
            work.grace.cancel()
        try:
            result: Result = await unless_disconnected(request, asyncio.shield(work.task))
            return result
        finally:
            work.waiting -= 1
            if work.task.done():
                self._forget(key, work)
            elif not work.waiting:
                work.grace = asyncio.get_running_loop().call_later(self._grace, self._abandon, key, work)

    def _abandon(self, key: bytes, work: _Work) -> None:
        if not work.waiting:
            self._forget(key, work)
            work.task.cancel()

    def _forget(self, key: bytes, work: _Work) -> None:
        if self._works.get(key) is work:
            del self._works[key]


async def unless_disconnected(request: Request, result: Awaitable[Result]) -> Result:
    """Wait for a result and return it.

    If the client closes its connection first, cancel the work and raise GoneError.
    """
    future = asyncio.ensure_future(result)
    disconnection = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((future, disconnection), return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        raise GoneError("The client closed its connection.")
    finally:
        disconnection.cancel()
        future.cancel()


async def _key(request: Request) -> bytes:
    key = exchange_of(request).key
    path = request.url.path
    return hashlib.sha256(f"{key.name if key else ''}\0{path}\0".encode() + await request.body()).digest()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
