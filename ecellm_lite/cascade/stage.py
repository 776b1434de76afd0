"""One model of a cascade, with the rows that wait for it and a count of its work."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecellm_lite.answerer import Answerer
from ecellm_lite.answers.answer import ModelName

if TYPE_CHECKING:
    from ecellm_lite.cascade.row import CascadeRow

# A model that gets few rows now and then computes each alone. So rows for the next model wait until there are this many
# of them, or until the model before it has nothing left to do. A busy server always has something to do, so after
# LONGEST_WAIT seconds they go on with the next answer.
GATHERED = 32
LONGEST_WAIT = 2.0


@dataclass(frozen=True, slots=True)
class Work:
    """How many rows a model has received so far, and for how many seconds it had rows to answer.

    Two models may be at work in the same second. Then this second counts for both.
    """

    model: ModelName
    rows: int
    seconds: float


class Stage:
    """One model of a cascade. It collects rows, because a larger batch runs faster."""

    def __init__(self, answerer: Answerer) -> None:
        self.answerer = answerer
        self._lock = threading.Lock()
        self._running = 0
        self._rows = 0
        self._seconds = 0.0
        self._since = 0.0  # when it last got a row after having none
        self._gathered: list[CascadeRow] = []
        self._gathered_since = 0.0

    @property
    def work(self) -> Work:
        """How many rows this model has received so far, and for how many seconds it had rows to answer."""
        with self._lock:
            running = time.monotonic() - self._since if self._running else 0.0
            return Work(self.answerer.model, self._rows, self._seconds + running)

    def begin(self) -> None:
        """Count a row that was submitted to this model."""
        with self._lock:
            if not self._running:
                self._since = time.monotonic()
            self._running += 1
            self._rows += 1

    def end(self) -> bool:
        """Count a row that this model has finished. Return whether all rows submitted to the model are finished."""
        with self._lock:
            self._running -= 1
            if not self._running:
                self._seconds += time.monotonic() - self._since
            return not self._running

    def gather(self, row: CascadeRow) -> None:
        """Add a row to the rows that wait for this model."""
        with self._lock:
            if not self._gathered:
                self._gathered_since = time.monotonic()
            self._gathered.append(row)

    def take_gathered(self, *, all_rows: bool) -> list[CascadeRow]:
        """Remove and return the waiting rows, or return an empty list if it is better to wait for more rows.

        `all_rows`: True to return the waiting rows at once, however few they are.
        """
        with self._lock:
            waited = time.monotonic() - self._gathered_since
            if not all_rows and len(self._gathered) < GATHERED and waited < LONGEST_WAIT:
                return []
            gathered, self._gathered = self._gathered, []
        return gathered
