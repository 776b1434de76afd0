"""Keeps a child process running: starts it, checks that it works, and replaces it if it dies or hangs."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from copy import copy
from functools import partial

from ecellm_lite.answers.answer import Answer, RowError
from ecellm_lite.engine.driver import closed_error, forked_error
from ecellm_lite.errors import CrashError, EcellmError
from ecellm_lite.exit_codes import ending
from ecellm_lite.pipe.asking import PendingRequest, RequestQueue
from ecellm_lite.pipe.child import Child, Message
from ecellm_lite.pipe.messages import PROTOCOL, Control, control_line

HEARTBEAT = 2.0  # seconds between two pings of the child
MOST_STARTS = 6  # how many children may die in a row before they are ready
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds before a restart, doubled each time until a child replies
CLOSING_SECONDS = 5.0  # seconds that a child gets to exit by itself


class Supervisor:
    """Keeps a child process running and sends it requests. Any thread may call any method at any time.

    A child that dies or hangs is replaced, and its unanswered requests are sent to the new child. If two children die
    while they run the same request, a third child gets this request and no other. If the third child dies too, the
    request fails, and identical requests are refused from then on.

    If the first child dies before it is ready, all requests fail, now and later. If a later child dies before it is
    ready, another child is started. After several such deaths in a row, the waiting requests fail, and the next request
    starts another child.

    If `lazy`, the first request starts the first child, and a failed start does not make later requests fail. A child
    that has no requests for `idle_seconds` is ended. The next request starts a new child.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        start_seconds: float,
        hang_seconds: float,
        idle_seconds: float | None = None,
        lazy: bool = False,
    ) -> None:
        self._command = command
        self._start_seconds = start_seconds
        self._hang_seconds = hang_seconds
        self._idle_seconds = idle_seconds
        self._changed = threading.Condition()
        self._requests = RequestQueue()
        self._child: Child | None = None
        self._ready: Message | None = None
        self._failure: EcellmError | None = None
        self._lazy = lazy
        self._wanted = not lazy  # whether there should be a child
        self._proven = False  # whether a child was ever ready
        self._failed_starts = 0
        self._pause = 0.0  # seconds before the next start
        self._closing = False
        self._calls: int | None = None  # calls of the model, as the child last reported
        self._alive = 0.0  # when the child last showed progress
        self._pinged = False  # whether a ping has no reply yet
        self._process = os.getpid()
        self.restarts = 0  # children that died and were replaced
        self._thread = threading.Thread(target=self._supervise, name="ecellm-lite supervisor", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether requests can be answered: a child is ready, or the next request will start one."""
        return self._ready is not None or not self._wanted

    @property
    def pid(self) -> int | None:
        """The child's process id, or None while there is no child."""
        child = self._child
        return child.pid if child else None

    def ready(self) -> Message:
        """Wait for the first child, and return its `ready` message. If its start fails, raises the child's error."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._failure or self._closing)
            if self._ready:
                return self._ready
            raise self._failure or closed_error()

    def ask(self, request: PendingRequest) -> None:
        """Queue a request.

        Raises ClosedError after `close`, or the child's error if the first child failed to start.
        """
        self.check_open()
        with self._changed:
            self.check_open()
            refused = self._requests.refuses(request)
            if not refused:
                if not self._requests:
                    self._alive = time.monotonic()
                    self._wanted = True
                    self._changed.notify_all()
                self._requests.add(request)
                self._send_what_waits()
        if refused:
            request.refuse()
        else:
            request.future.add_done_callback(lambda future: self._cancel(request) if future.cancelled() else None)

    def check_open(self) -> None:
        """Raise an error after `close`, after a failed start, and in a forked process."""
        if os.getpid() != self._process:
            raise forked_error()
        if self._failure:
            raise copy(self._failure)  # raising the same object again and again would keep every caller's frames
        if self._closing:
            raise closed_error()

    def close(self) -> None:
        """End the child. Unanswered requests fail with ClosedError. A second call does nothing."""
        if os.getpid() != self._process:
            return
        with self._changed:
            self._closing = True
            child, idle = self._child, bool(self._ready) and not self._requests
            abandoned = self._requests.take_all()
            self._changed.notify_all()
        for request in abandoned:
            request.settle(error=closed_error())
        if child:
            child.end(gently=idle, seconds=CLOSING_SECONDS)
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSING_SECONDS)

    def _supervise(self) -> None:
        """Keep a child running while requests need one, check that it works, and end it when it is idle too long."""
        while True:
            unused = None
            with self._changed:
                if self._closing or self._failure:
                    return
                if self._child is None:
                    if not self._wanted:
                        self._changed.wait_for(lambda: self._closing or self._wanted)
                    elif not self._changed.wait_for(lambda: self._closing, self._pause):
                        self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)
                        self._start()
                    continue
                idle = bool(self._ready) and not self._requests
                if self._changed.wait_for(partial(self._must_act, idle), self._patience(idle)):
                    continue
                if not idle:
                    self._watch_child(self._child)
                elif self._patience(idle) == 0:
                    unused, self._child, self._ready, self._wanted = self._child, None, None, False
            if unused:
                unused.end(gently=True, seconds=CLOSING_SECONDS)

    def _patience(self, idle: bool) -> float | None:
        """Return how many seconds to wait: until an idle child is ended, or else until the child is checked.

        `idle`: whether the child is ready and has no requests. The result is None if idle children are never ended.
        """
        if not idle:
            return HEARTBEAT
        return None if self._idle_seconds is None else max(0.0, self._alive + self._idle_seconds - time.monotonic())

    def _must_act(self, idle: bool) -> bool:
        return self._closing or self._failure is not None or self._child is None or (idle and bool(self._requests))

    def _start(self) -> None:
        self._ready = None
        self._calls, self._alive, self._pinged = None, time.monotonic(), False
        try:
            self._child = Child(self._command, self._received, self._ended)
        except OSError as error:
            program = self._command[0]
            own = program != sys.executable
            step = "give the path of ecellm-lite as the command, if it is not on the PATH" if own else None
            message = f"The engine's process {program} cannot be started ({error.strerror}){'' if step else '.'}"
            failure = CrashError(message, step=step)
            abandoned = self._fail(failure)
            threading.Thread(target=_settle_all, args=(abandoned, failure), daemon=True).start()  # outside the lock

    def _watch_child(self, child: Child) -> None:
        silence = time.monotonic() - self._alive
        if silence > (self._hang_seconds if self._ready else self._start_seconds):
            child.kill()
        elif self._ready and self._requests and not self._pinged:
            self._pinged = True
            child.send(control_line(Control(0, "ping")))

    def _received(self, child: Child, message: Message) -> None:
        """Handle a message of the child. A malformed message raises ValueError, LookupError or TypeError."""
        kind, number = message["type"], message["id"] if message["type"] != "ready" else None
        answer = Answer.from_dict(message["answer"]) if kind == "answer" else None
        error = RowError(**message["error"]).exception() if kind == "error" else None
        request = growing = None
        abandoned: list[PendingRequest] = []
        with self._changed:
            if child is not self._child:
                return
            if kind == "pong":
                self._pinged = False
                if message["calls"] != self._calls or not message["busy"]:
                    self._alive = time.monotonic()
                self._calls = message["calls"]
            elif kind == "ready":
                if message.get("protocol") == PROTOCOL:
                    self._ready, self._proven, self._failed_starts, self._alive = message, True, 0, time.monotonic()
                    self._send_what_waits()
                    self._changed.notify_all()
                else:
                    error = CrashError(
                        f"The engine's process speaks protocol {message.get('protocol')!r}, not {PROTOCOL}."
                    )
                    abandoned = self._fail(error)
            elif error and number is None:
                if self._ready:
                    raise ValueError("the child did not understand a line")
                abandoned = self._fail(error)  # the child cannot start
            elif kind == "part":
                self._alive = time.monotonic()
                growing = self._requests.sent(message["id"])
            elif isinstance(number, int) and number:
                self._alive = time.monotonic()
                self._pause = 0.0
                request = self._requests.take(number)
                self._send_what_waits()
        if growing:
            growing.extend_text(message["start"], message["text"])
        if request:
            request.settle(answer, error)
        _settle_all(abandoned, error)

    def _ended(self, child: Child) -> None:
        failure: EcellmError | None = None
        abandoned: list[PendingRequest] = []
        with self._changed:
            if child is not self._child:
                return
            was_ready, self._child, self._ready = self._ready, None, None
            cancelled, lost = self._requests.child_died()
            if not was_ready and not self._failure and not self._closing:
                self._failed_starts += 1
                if self._failed_starts >= MOST_STARTS or not self._proven:
                    failure = CrashError(
                        f"The engine's process {ending(child.exit_code) or 'ended'} while it loaded the model",
                        step="check the model's file, and that there is enough memory",
                    )
                    abandoned = self._fail(failure)
            if self._wanted and not self._failure and not self._closing:
                self.restarts += 1
            self._changed.notify_all()
        for request in cancelled:
            request.settle()
        for request in lost:
            request.refuse()
        _settle_all(abandoned, failure)

    def _send_what_waits(self) -> None:
        if self._child and self._ready:
            for request in self._requests.to_send():
                self._child.send(request.line)

    def _cancel(self, request: PendingRequest) -> None:
        """Drop a cancelled request. If the child already has the request, tell the child to cancel it."""
        with self._changed:
            if self._requests.is_sent(request.number):
                if self._child:
                    self._child.send(control_line(Control(request.number, "cancel")))
                return
            dropped = self._requests.take(request.number)
            self._send_what_waits()
        if dropped:
            dropped.settle()

    def expire(self, request: PendingRequest, answer: Answer) -> None:
        """Fail and drop a request whose deadline has passed. A request that has an answer is left alone."""
        with self._changed:
            if self._child and self._requests.is_sent(request.number):
                self._child.send(control_line(Control(request.number, "cancel")))
            if not self._requests.take(request.number):
                return
            self._send_what_waits()
        request.settle(answer)

    def _fail(self, error: EcellmError) -> list[PendingRequest]:
        """Kill the child, and return the unanswered requests, which must now fail.

        If an earlier child was ready, or if the supervisor is `lazy` (the first request starts the first child), the
        next request starts a new child. Otherwise, all later requests fail too.
        """
        child, self._child, self._ready = self._child, None, None
        if child:
            child.kill()
        if self._lazy or self._proven:
            self._wanted = False
        else:
            self._failure = error
        self._changed.notify_all()
        return self._requests.take_all()


def _settle_all(abandoned: Sequence[PendingRequest], error: EcellmError | None) -> None:
    for request in abandoned:
        request.settle(error=copy(error))
