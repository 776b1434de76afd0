"""Submits further rows while answers are computed, so that the model can compute several rows together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

Row = TypeVar("Row")
Result = TypeVar("Result")


def read_ahead(
    rows: Iterable[Row],
    submit: Callable[[Row], Future[Result]],
    *,
    most: int,
    finish: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """Yield one answer for each row, in order, while a separate thread submits the following rows.

    At most `most` rows are submitted ahead of the answers. An answer is yielded as soon as it is ready, even if the
    next row has not arrived. So a program may wait for an answer before it sends the next row. The thread calls
    `finish` after the last row.

    If `rows` or `submit` raises an exception for a row, this exception is raised in place of the row's answer. If the
    caller stops early, the remaining answers are cancelled.
    """
    queue: SimpleQueue[Future[Result] | BaseException | None] = SimpleQueue()
    room = threading.Semaphore(most)
    stopped = threading.Event()

    def read() -> None:
        end: BaseException | None = None
        try:
            for row in rows:
                future = submit(row)
                queue.put(future)
                room.acquire()
                if stopped.is_set():
                    future.cancel()
                    return
        except BaseException as error:  # noqa: BLE001 - the reader of the answers gets it
            end = error
        finally:
            if finish:
                finish()
            queue.put(end)

    threading.Thread(target=read, name="ecellm-lite rows", daemon=True).start()
    entry: Future[Result] | BaseException | None = None
    try:
        while (entry := queue.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry.result()
            room.release()
    finally:
        stopped.set()
        room.release()
        while isinstance(entry, Future):
            entry.cancel()
            entry = None if queue.empty() else queue.get()
