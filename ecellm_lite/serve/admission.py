"""Limits how many rows may wait for an answer at a time. The response to a refused request says when to try again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ecellm_lite.serve.errors import RefusedError, retry_after
from ecellm_lite.serve.keys import Key

_SMOOTHING = 0.1  # the weight of the latest request in the rate


class Admission:
    """Counts the waiting rows, in total and for each API key. Use it only in the event loop's thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of_key: Counter[str] = Counter()
        self._rate = 10.0  # rows a second, assumed until some were answered
        self.waiting = 0

    @contextmanager
    def admit(self, rows: int, key: Key | None) -> Iterator[None]:
        """Count a request's rows as waiting inside the `with` block.

        Raises RefusedError: 422 if the request alone has too many rows for its key, 429 if too many rows wait.
        """
        if key and key.rows is not None and rows > key.rows:
            message = f"The request has {rows:,} rows and questions"
            raise RefusedError(422, "key_rows", message, step=f"send at most {key.rows:,} at a time with this key")
        if self.waiting + rows > self._most and self.waiting:
            raise self._full("The queue is full", "queue_full", self.waiting + rows - self._most)
        if key and key.rows is not None and self._of_key[key.name] + rows > key.rows:
            own = self._of_key[key.name]
            raise self._full(f"{own:,} rows of this key are already waiting", "key_limit", own)
        self.waiting += rows
        if key:
            self._of_key[key.name] += rows
        started = time.monotonic()
        try:
            yield
            lately = rows / max(time.monotonic() - started, 1e-3)
            self._rate += _SMOOTHING * (lately - self._rate)
        finally:
            self.waiting -= rows
            if key:
                self._of_key[key.name] -= rows

    def _full(self, message: str, reason: str, ahead: int) -> RefusedError:
        headers = retry_after(ahead / self._rate)
        step = f"ask again in {headers['Retry-After']} s, or send fewer rows at a time"
        return RefusedError(429, reason, message, step=step, headers=headers)
