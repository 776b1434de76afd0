"""Keeps a child process running: starts it, sees that it works, and asks again what it had when it died."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from ecellm_lite.answers.answer import Answer, RowError
from ecellm_lite.errors import ClosedError, CrashError, EcellmError
from ecellm_lite.pipe.asking import Asking, Refused
from ecellm_lite.pipe.child import Child, Message
from ecellm_lite.pipe.messages import PROTOCOL, Control, control_line

HEARTBEAT = 2.0  # seconds between two questions whether the child still works
STARTS = 3  # children that may die one after the other before they are ready
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds before a child is started again, doubled each time
FAREWELL = 5.0  # seconds that a child has to end by itself


class Supervisor:
    """A child process, and the requests that it has or waits for; any thread may call at any time.

    A child that dies, or hangs, is started again. A request that two children died with is asked alone; if a third dies
    too, it is refused from then on. When children die before they are ready, everything fails, now and later.
    """

    def __init__(self, command: Sequence[str], *, start_seconds: float, hang_seconds: float) -> None:
        self._command = command
        self._start_seconds = start_seconds
        self._hang_seconds = hang_seconds
        self._changed = threading.Condition()
        self._asked: dict[int, Asking] = {}
        self._refused = Refused()
        self._child: Child | None = None
        self._ready: Message | None = None
        self._failure: EcellmError | None = None
        self._failed_starts = 0
        self._starts = 0
        self._closing = False
        self._calls: int | None = None  # that the child had made when it last said so
        self._alive = 0.0  # when it last showed that it works
        self._thread = threading.Thread(target=self._supervise, name="ecellm-lite supervisor", daemon=True)
        self._thread.start()

    @property
    def restarts(self) -> int:
        """How often a child was started again."""
        return self._starts - 1

    @property
    def pid(self) -> int | None:
        """The child's process number, None while there is none."""
        child = self._child
        return child.pid if child else None

    def ready(self) -> Message:
        """Wait for the first child, and return what it says of itself; raises what its start ended with."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._failure or self._closing)
            if self._ready:
                return self._ready
            raise self._failure or _closed()

    def ask(self, asking: Asking) -> None:
        """Take a request in; raises ClosedError, or what the child's start ended with."""
        number = int(asking.ask.id)
        with self._changed:
            if self._failure:
                raise self._failure
            if self._closing:
                raise _closed()
            if len(self._refused) and asking.key in self._refused:
                asking.future.set_result(asking.failed(_crashed()))
                return
            if not self._asked:
                self._alive = time.monotonic()
            self._asked[number] = asking
            self._send_what_waits()
            self._changed.notify_all()
        asking.future.add_done_callback(lambda future: self._cancel(number) if future.cancelled() else None)

    def close(self) -> None:
        """End the child; requests that have no answer fail with ClosedError. A second call does nothing."""
        with self._changed:
            self._closing = True
            child = self._child
            abandoned, self._asked = list(self._asked.values()), {}
            self._changed.notify_all()
        for asking in abandoned:
            _settle(asking.future, error=_closed())
        if child:
            child.send(control_line(Control(0, "close")))
            if abandoned or not child.wait(FAREWELL):
                child.kill()
                child.wait(FAREWELL)
        if threading.current_thread() is not self._thread:
            self._thread.join(FAREWELL)

    def _supervise(self) -> None:
        """Keep a child running, and see that it works."""
        pause = 0.0
        while True:
            with self._changed:
                if self._closing or self._failure:
                    return
                if self._child is None:
                    if pause and self._changed.wait_for(lambda: self._closing, pause):
                        return
                    pause = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
                    self._start()
                    continue
                if self._ready:
                    pause = 0.0
                idle = bool(self._ready) and not self._asked
                if self._changed.wait_for(partial(self._has_news, idle), None if idle else HEARTBEAT):
                    continue
                if self._child:
                    self._look_after(self._child)

    def _has_news(self, idle: bool) -> bool:
        return self._closing or self._failure is not None or self._child is None or (idle and bool(self._asked))

    def _start(self) -> None:
        self._ready = None
        self._starts += 1
        self._calls, self._alive = None, time.monotonic()
        try:
            self._child = Child(self._command, self._received, self._ended)
        except OSError as error:
            self._fail(CrashError(f"The engine's process cannot be started ({error.strerror})."))

    def _look_after(self, child: Child) -> None:
        silence = time.monotonic() - self._alive
        if silence > (self._hang_seconds if self._ready else self._start_seconds):
            child.kill()
        elif self._ready and self._asked:
            child.send(control_line(Control(0, "ping")))

    def _received(self, child: Child, message: Message) -> None:
        kind, number = message.get("type"), message.get("id")
        asking: Asking | None = None
        with self._changed:
            if child is not self._child:
                return
            if kind == "pong":
                if message["calls"] != self._calls or not message["busy"]:
                    self._alive = time.monotonic()
                self._calls = message["calls"]
            elif kind == "ready":
                self._welcome(message)
            elif kind == "error" and number is None:
                self._fail(_error(message["error"]))  # it cannot start
            elif isinstance(number, int) and number:
                self._alive = time.monotonic()
                asking = self._asked.pop(number, None)
                self._send_what_waits()
        if asking and kind == "answer":
            _settle(asking.future, Answer.from_dict(message["answer"]))
        elif asking and kind == "error":
            _settle(asking.future, error=_error(message["error"]))

    def _welcome(self, message: Message) -> None:
        if message.get("protocol") != PROTOCOL:
            self._fail(CrashError(f"The engine's process speaks protocol {message.get('protocol')!r}, not {PROTOCOL}."))
            return
        self._ready, self._failed_starts, self._alive = message, 0, time.monotonic()
        self._send_what_waits()
        self._changed.notify_all()

    def _ended(self, child: Child) -> None:
        lost: list[Asking] = []
        with self._changed:
            if child is not self._child:
                return
            was_ready, self._child, self._ready = self._ready, None, None
            if not was_ready:
                self._failed_starts += 1
                if self._failed_starts >= STARTS or self._starts == 1:
                    self._fail(
                        CrashError(
                            f"The engine's process died while it loaded the model (exit code {child.exit_code})",
                            step="check the model's file, and whether there is memory enough",
                        )
                    )
            for number, asking in list(self._asked.items()):
                if asking.future.cancelled():
                    del self._asked[number]
                elif asking.sent:
                    if asking.suspect:  # it was alone
                        self._refused.add(asking.key)
                        lost.append(self._asked.pop(number))
                    asking.sent = False
                    asking.deaths += 1
            self._changed.notify_all()
        for asking in lost:
            _settle(asking.future, asking.failed(_crashed()))

    def _send_what_waits(self) -> None:
        """Send the requests that may go now: suspects one at a time, and the others when there are none."""
        child = self._child
        if not child or not self._ready:
            return
        suspects = [asking for asking in self._asked.values() if asking.suspect]
        if suspects:
            waiting = [] if any(asking.sent for asking in self._asked.values()) else suspects[:1]
        else:
            waiting = [asking for asking in self._asked.values() if not asking.sent]
        for asking in waiting:
            asking.sent = True
            child.send(asking.line)

    def _cancel(self, number: int) -> None:
        with self._changed:
            asking = self._asked.get(number)
            if asking and asking.sent and self._child:
                self._child.send(control_line(Control(number, "cancel")))
            elif asking:
                del self._asked[number]
                self._send_what_waits()

    def _fail(self, error: EcellmError) -> None:
        """Give up: every request, now and later, fails with this error."""
        self._failure = error
        abandoned, self._asked = list(self._asked.values()), {}
        self._changed.notify_all()
        for asking in abandoned:
            threading.Thread(target=_settle, args=(asking.future,), kwargs={"error": error}, daemon=True).start()


def _settle(future: Future[Answer], answer: Answer | None = None, error: EcellmError | None = None) -> None:
    if future.set_running_or_notify_cancel():
        if answer:
            future.set_result(answer)
        else:
            future.set_exception(error or CrashError("The engine's process gave no answer."))


def _error(fields: Any) -> EcellmError:
    return RowError(**fields).exception()


def _closed() -> ClosedError:
    return ClosedError("The model was closed before the answer was there", step="keep it open until all answers are in")


def _crashed() -> CrashError:
    return CrashError(
        "The engine's process died three times while it worked on this request",
        step="leave the row out, and report it with its task",
    )
