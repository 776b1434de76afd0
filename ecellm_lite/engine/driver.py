"""The thread that runs the scheduler: it works while there are requests and sleeps otherwise."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ecellm_lite.engine.interface import Backend
from ecellm_lite.engine.request import Request
from ecellm_lite.engine.scheduler import Scheduler
from ecellm_lite.engine.waiting import GROUP
from ecellm_lite.errors import ClosedError, EcellmError

# An idle engine waits up to PAUSE seconds for the caller's next row before it starts, and LONGEST_PAUSE at most in all:
# rows that start together share more. It must not wait longer: a caller may send no more until it has its answers.
PAUSE, LONGEST_PAUSE = 0.01, 0.1


class Driver:
    """Runs a scheduler and its backend in a thread of its own, which also frees the backend.

    Any thread may call its methods at any time. A forked process does not have the driver's thread. So in a forked
    process, `submit`, `model_in_use` and `check_open` raise ClosedError.
    """

    def __init__(self, scheduler: Scheduler, backend: Backend) -> None:
        self._scheduler = scheduler
        self._backend = backend
        self._wake = threading.Condition()
        self._model = threading.Lock()  # held by a thread that uses the model, which must not be freed meanwhile
        self._closing = False
        self._more = False  # whether the caller of the last request is about to send another
        self._first = self._latest = 0.0  # when the first request since idle arrived, and the last one
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="ecellm-lite engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, *, more: bool = False) -> None:
        """Queue a request. `more`: whether the caller will submit another request at once.

        Raises ClosedError after `close`. If `close` is called during this call, the request ends with ClosedError.
        """
        self.check_open()
        with self._wake:
            if not self._closing:
                self._latest = time.monotonic()
                if not self._scheduler.waiting:
                    self._first = self._latest
                self._more = more
                self._scheduler.submit(request)
                self._wake.notify()
                return
        request.end(error=closed_error())

    def no_more(self) -> None:
        """Start on the queued requests now, without the usual short wait for further requests."""
        with self._wake:
            self._more = False
            self._wake.notify()

    @contextmanager
    def model_in_use(self) -> Iterator[Backend]:
        """Yield the backend, and keep it from being freed inside the `with` block. Raises ClosedError after `close`."""
        with self._model:
            self.check_open()
            yield self._backend

    def progress(self) -> tuple[bool, int]:
        """Return whether the engine has work, and how many calls of the model it has made."""
        return bool(self._scheduler.running or self._scheduler.waiting), self._scheduler.calls

    def check_open(self) -> None:
        """Raise ClosedError if no more requests are accepted."""
        if os.getpid() != self._process:
            raise forked_error()
        if self._closing:
            raise closed_error()

    def close(self) -> None:
        """End the thread and free the model. Unanswered requests end with ClosedError."""
        if os.getpid() != self._process:
            return
        with self._wake:
            self._closing = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:  # the last reference may be dropped in any thread
            self._thread.join()

    def _run(self) -> None:
        end: EcellmError = closed_error()
        try:
            while self._wait():
                self._scheduler.step()
        except Exception as error:  # noqa: BLE001 - the waiting callers get it
            end = EcellmError(f"The engine stopped: {type(error).__name__}: {error}.")
        finally:
            with self._wake:
                self._closing = True
            self._scheduler.fail(end)
            with self._model:
                self._backend.close()

    def _wait(self) -> bool:
        """Sleep until there is work. Return False if the thread must end, else True."""
        with self._wake:
            while not self._closing:
                if self._scheduler.running:
                    return True
                if not self._scheduler.waiting:
                    self._wake.wait()
                    continue
                pause = min(self._latest + PAUSE, self._first + LONGEST_PAUSE) - time.monotonic()
                if not self._more or pause <= 0 or self._scheduler.waiting >= GROUP:
                    return True
                self._wake.wait(pause)
            return False


def closed_error() -> ClosedError:
    """Return the error for a request that was not answered before `close`, or was submitted after it."""
    return ClosedError("The model was closed before the answer was ready", step="keep it open until all answers are in")


def forked_error() -> ClosedError:
    """Return the error for a request in a forked process. Only the process that loaded the model can use it."""
    return ClosedError(
        "The model was loaded before this process was forked, and cannot be used in it",
        step="load it after the fork, in each process",
    )
