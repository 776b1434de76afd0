"""Two helpers that read and write in background threads, so that the main thread need not wait.

If a background thread fails, its error is raised in the main thread at the next call.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL = 0.1  # seconds; how often a waiting thread checks whether it should end


class ReadAhead(Generic[T]):
    """A context manager that reads items in a background thread, before the caller needs them.

    At most `depth` items wait for the caller. The thread stops at the end of the `with` block.
    """

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self._items = items
        self._ready: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read ahead", daemon=True)

    def __enter__(self) -> ReadAhead[T]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while (entry := self._ready.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry[0]

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put((item,)):
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that takes the items
            self._put(error)

    def _put(self, entry: tuple[T] | BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._ready.put(entry, timeout=_POLL)
            except queue.Full:
                continue
            return True
        return False


class WriteBehind(Generic[T]):
    """A context manager that calls a function on each item in a background thread.

    At most `depth` items wait for the thread. The `with` block ends when all items are done or the function has failed.
    """

    def __init__(self, work: Callable[[T], None], depth: int) -> None:
        self._work = work
        self._queue: queue.Queue[tuple[T] | None] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="write behind", daemon=True)

    def __enter__(self) -> WriteBehind[T]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if kind is None:
            self._check()

    def put(self, item: T) -> None:
        """Queue an item. The background thread then calls `work(item)`. Waits while `depth` items are queued.

        Raises the error that `work` raised on an earlier item.
        """
        self._check()
        self._queue.put((item,))

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._work(entry[0])
                except BaseException as error:  # noqa: BLE001 - raised in the thread that passes the items on
                    self._error = error
