"""Calls functions at set times, in a thread that runs only while calls are scheduled.

The engine's own thread cannot make these calls, because it may be in a long call of the model when a deadline passes.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from itertools import count

# The longest deadline, in milliseconds: a day.
LONGEST = 86_400_000


class Deadlines:
    """Calls functions at the times for which they are scheduled. These functions must return at once. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int]] = []  # a heap of times and the numbers of their calls
        self._calls: dict[int, Callable[[], None]] = {}
        self._numbers = count()
        self._runs = False

    def add(self, moment: float, call: Callable[[], None]) -> Callable[[], None]:
        """Schedule `call` for `moment`, a time of the clock `time.monotonic`. Return a function that cancels it."""
        with self._changed:
            number = next(self._numbers)
            self._calls[number] = call
            heapq.heappush(self._due, (moment, number))
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="ecellm-lite deadlines", daemon=True).start()
            elif self._due[0][1] == number:
                self._changed.notify()
        return lambda: self._withdraw(number)

    def _withdraw(self, number: int) -> None:
        with self._changed:
            self._calls.pop(number, None)
            if len(self._due) > 2 * len(self._calls) + 64:  # withdrawn calls with late deadlines must not pile up
                self._due = [entry for entry in self._due if entry[1] in self._calls]
                heapq.heapify(self._due)

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._due and self._due[0][1] not in self._calls:
                    heapq.heappop(self._due)
                if not self._due:
                    self._runs = False
                    return
                moment, number = self._due[0]
                remaining = moment - time.monotonic()
                if remaining > 0:
                    self._changed.wait(remaining)
                    continue
                heapq.heappop(self._due)
                call = self._calls.pop(number)
            call()
