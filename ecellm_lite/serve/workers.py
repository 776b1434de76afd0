"""Several engine processes that run the same model, and that are used like a single Answerer.

Each row goes to the engine with the fewest waiting rows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

from ecellm_lite.answerer import Answerer, RequestOptions, Row
from ecellm_lite.answers.answer import Answer
from ecellm_lite.errors import InputError
from ecellm_lite.read_ahead import read_ahead
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack

WINDOW = 256  # rows of each engine read ahead of the next answer


class Submits(Protocol):
    """An object to which rows can be submitted: an Answerer, or one of its engines."""

    def submit(self, task: str | Task, row: Row | InputError, **options: Unpack[RequestOptions]) -> Future[Answer]:
        """Queue a row, and return a future for its answer. The answer to a bad row holds the error."""


class Adapted:
    """An engine whose rows are all answered with one adapter."""

    def __init__(self, engine: Submits, adapter: str) -> None:
        self._engine = engine
        self._adapter = adapter

    def submit(self, task: str | Task, row: Row | InputError, **options: Unpack[RequestOptions]) -> Future[Answer]:
        """Submit a row, to be answered by the engine with this object's adapter. Return a future for the answer."""
        options["adapter"] = self._adapter
        return self._engine.submit(task, row, **options)


class Worker:
    """One engine, and how many of its rows have no answer yet."""

    def __init__(self, answerer: Answerer) -> None:
        self.answerer = answerer
        self.waiting = 0
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether the engine can answer: it has loaded the model, or the next request will make it do so."""
        return bool(getattr(self.answerer, "ready", True))

    def submit(self, task: str | Task, row: Row | InputError, **options: Unpack[RequestOptions]) -> Future[Answer]:
        """Submit a row to the engine, count it as waiting, and return a future for its answer."""
        self.count(1)
        return self.submit_counted(task, row, options)

    def submit_counted(self, task: str | Task, row: Row | InputError, options: RequestOptions) -> Future[Answer]:
        """Submit a row. The caller has already called `count(1)`, which counts the row as waiting."""
        try:
            future = self.answerer.submit(task, row, **options)
        except BaseException:
            self.count(-1)
            raise
        future.add_done_callback(lambda _: self.count(-1))
        return future

    def count(self, change: int) -> None:
        """Add `change` to the number of rows that have no answer yet."""
        with self._lock:
            self.waiting += change


class Workers:
    """Several engines that run the same model, used like a single Answerer. Thread-safe."""

    def __init__(self, answerers: Sequence[Answerer]) -> None:
        self.members = [Worker(answerer) for answerer in answerers]
        self._lock = threading.Lock()
        first = answerers[0]
        self.model, self.envelope, self.tasks, self.adapters = first.model, first.envelope, first.tasks, first.adapters

    @property
    def ready(self) -> bool:
        """Whether at least one engine can answer."""
        return any(member.ready for member in self.members)

    @property
    def restarts(self) -> int:
        """How often engine processes were restarted."""
        return sum(getattr(member.answerer, "restarts", 0) for member in self.members)

    def shortest(self) -> Worker:
        """Return the engine with the fewest waiting rows. An engine that is being restarted comes last.

        If rows share a long text, submit all of them to this one engine, which then reads the text once.
        """
        return min(self.members, key=lambda member: (not member.ready, member.waiting))

    def submit(self, task: str | Task, row: Row | InputError, **options: Unpack[RequestOptions]) -> Future[Answer]:
        """Submit a row to the engine with the fewest waiting rows, and return the future of its answer."""
        with self._lock:  # two threads must not find the same queue the shortest
            member = self.shortest()
            member.count(1)
        return member.submit_counted(task, row, options)

    def answer(self, task: str | Task, row: Row, **options: Unpack[RequestOptions]) -> Answer:
        """Wait for the answer to one row and return it, or raise the row's error."""
        return self.shortest().answerer.answer(task, row, **options)

    def answers(
        self, task: str | Task, rows: Iterable[Row | InputError], **options: Unpack[RequestOptions]
    ) -> Iterator[Answer]:
        """Yield one answer for each row, in order. The answer to a bad row holds the error."""
        checked = task if isinstance(task, Task) else get_task(task)
        yield from read_ahead(rows, lambda row: self.submit(checked, row, **options), most=WINDOW * len(self.members))

    def close(self) -> None:
        """Close all engines."""
        for member in self.members:
            member.answerer.close()
