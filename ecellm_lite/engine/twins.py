"""Computes identical requests once: the first request runs, and all later ones get its answer."""

from __future__ import annotations

import threading

from ecellm_lite.engine.request import Request


class Twins:
    """Finds requests that are identical to an unanswered one. Any thread may call the methods at any time.

    A lock is held while a request is attached to another, ends, or is dropped. It is released before callers are
    notified.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unanswered: dict[int, Request] = {}  # by the hash of the adapter and the prompt

    def join(self, request: Request) -> bool:
        """Attach a request to an identical earlier one, so that both get one answer. Return False if none waits."""
        key = _key(request)
        with self._lock:
            first = self._unanswered.get(key)
            if first and first.can_share_answer(request):
                first.twins.append(request)
                return True
            self._unanswered[key] = request
            return False

    def end(self, request: Request) -> None:
        """Pass a finished request's result to the identical requests that joined it."""
        with self._lock:
            self._forget(request)
            twins, request.twins = request.twins, []
        for twin in twins:
            twin.end_like(request)

    def drop(self, request: Request) -> bool:
        """Drop a request and the identical requests that joined it.

        If anybody still waits for one of these requests, drop none of them and return False.
        """
        with self._lock:
            if request.awaited:
                return False
            self._forget(request)
            twins, request.twins = request.twins, []
        for dropped in (request, *twins):
            dropped.end()
        return True

    def _forget(self, request: Request) -> None:
        key = _key(request)
        if self._unanswered.get(key) is request:
            del self._unanswered[key]


def _key(request: Request) -> int:
    return hash((request.adapter, *request.prompt))
