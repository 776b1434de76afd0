"""Work that goes on beside the work at hand: reading ahead of it, and writing behind it, each by one thread.

What a side thread raises is raised again where its results are taken, or its next work is given.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_PATIENCE = 0.1  # seconds after which a thread that waits looks whether it is still wanted


class Ahead(Generic[T]):
    """Goes through an iterable in a thread, up to `depth` items ahead; a context manager that is itself iterable."""

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self._items = items
        self._ready: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read ahead", daemon=True)

    def __enter__(self) -> Ahead[T]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while True:
            found = self._ready.get()
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found[0]

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put((item,)):
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits for the items
            self._put(error)

    def _put(self, item: tuple[T] | BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=_PATIENCE)
            except queue.Full:
                continue
            return True
        return False


class Behind(Generic[T]):
    """Calls a function with each item given, in a thread, up to `depth` items behind; a context manager.

    Left in peace or by an error, it first works off what was given, unless the work itself failed.
    """

    def __init__(self, work: Callable[[T], None], depth: int) -> None:
        self._work = work
        self._given: queue.Queue[tuple[T] | None] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="write behind", daemon=True)

    def __enter__(self) -> Behind[T]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._given.put(None)
        self._thread.join()
        if kind is None:
            self._check()

    def give(self, item: T) -> None:
        """Give an item, waiting while `depth` are not worked off; raises what the work has raised."""
        self._check()
        self._given.put((item,))

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (item := self._given.get()) is not None:
            if self._error is None:
                try:
                    self._work(item[0])
                except BaseException as error:  # noqa: BLE001 - it is raised in the thread that gives the items
                    self._error = error
