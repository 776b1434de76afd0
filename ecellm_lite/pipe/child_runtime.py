"""An Answerer whose engine is a child process, which may die without taking this one along.

A child that dies or hangs is started again, and what it had is asked again. A request that two children died with is
asked alone; if a third dies too, it is refused from then on.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecellm_lite.answerer import RequestOptions, Row
from ecellm_lite.answers.answer import Answer, ModelName, RowError
from ecellm_lite.envelopes import Envelope, get_envelope
from ecellm_lite.errors import ClosedError, CrashError, EcellmError, InputError
from ecellm_lite.pipe.asking import Asking, Refused
from ecellm_lite.pipe.child import Child, Message
from ecellm_lite.pipe.messages import PROTOCOL, Ask, Control, control_line
from ecellm_lite.pipe.options import wire_options
from ecellm_lite.read_ahead import read_ahead
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Task

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

WINDOW = 256  # rows that are read ahead of the answer that is due next
HEARTBEAT = 2.0  # seconds between two questions whether the child still works
STARTS = 3  # children that may die one after the other before they are ready
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds before a child is started again, doubled each time
FAREWELL = 5.0  # seconds that a child has to end by itself


class ChildRuntime:
    """A model in a child process; a context manager, and safe to use from any number of threads.

    `settings` are Runtime's (model, envelope, context, threads, gpu_layers, deterministic, prefix_files).
    `start_seconds`: a child that is not ready by then has failed. `hang_seconds`: one that makes no call of the model
    in so long a time, though it has rows, or does not answer, hangs and is killed. `memory_bytes` limits what the child
    may allocate (the model's file is mapped and does not count), `nice` lowers its priority, where the system can.

    Raises what loading the model raises, and CrashError if the child dies of it.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        start_seconds: float = 600,
        hang_seconds: float = 300,
        memory_bytes: int | None = None,
        nice: int | None = None,
        command: Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        self._command = list(command or child_command(model, memory_bytes=memory_bytes, nice=nice, **settings))
        self._start_seconds = start_seconds
        self._hang_seconds = hang_seconds
        self._changed = threading.Condition()
        self._asked: dict[int, Asking] = {}
        self._refused = Refused()
        self._numbers = count(1)
        self._child: Child | None = None
        self._ready: Message | None = None
        self._failure: EcellmError | None = None
        self._failed_starts = 0
        self._restarts = -1
        self._closing = False
        self._calls: int | None = None  # that the child had made when it last said so
        self._alive = 0.0  # when it last showed that it works
        self._thread = threading.Thread(target=self._supervise, name="ecellm-lite supervisor", daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._failure)
            failure, ready = self._failure, self._ready
        if failure or not ready:
            self.close()
            raise failure or ClosedError("The engine's process was closed while it started.")
        model_facts = ready["model"]
        self.model: ModelName = ModelName(model_facts["name"], model_facts["sha256"])
        self.envelope: Envelope = get_envelope(model_facts["envelope"])
        self.tasks: tuple[str, ...] = tuple(ready["tasks"])

    @property
    def restarts(self) -> int:
        """How often a child was started again."""
        return self._restarts

    @property
    def pid(self) -> int | None:
        """The child's process number, None while there is none."""
        child = self._child
        return child.pid if child else None

    def submit(self, task: str | Task, row: Row | InputError, **options: Unpack[RequestOptions]) -> Future[Answer]:
        """Return the answer to come; see Answerer. It fails with CrashError if the row takes children down."""
        checked_task = task if isinstance(task, Task) else get_task(task)
        name = str(checked_task.source) if checked_task.source else checked_task.name
        number = next(self._numbers)
        try:
            if isinstance(row, InputError):
                raise row
            asking = Asking.of(Ask(number, name, row, wire_options(options)))
        except InputError as error:
            future: Future[Answer] = Future()
            future.set_result(self._unasked(checked_task, error))
            return future
        with self._changed:
            self._check_open()
            if len(self._refused) and asking.key in self._refused:
                asking.future.set_exception(_crashed())
                return asking.future
            if not self._asked:
                self._alive = time.monotonic()
            self._asked[number] = asking
            self._send_what_waits()
            self._changed.notify_all()
        asking.future.add_done_callback(lambda future: self._cancel(number) if future.cancelled() else None)
        return asking.future

    def answer(self, task: str | Task, row: Row, **options: Unpack[RequestOptions]) -> Answer:
        """Return the answer to one row, or raise the error that its answer would carry; see Answerer."""
        future = self.submit(task, row, **options)
        try:
            answer = future.result()
        finally:
            future.cancel()
        if answer.error:
            raise answer.error.exception()
        return answer

    def answers(
        self, task: str | Task, rows: Iterable[Row | InputError], **options: Unpack[RequestOptions]
    ) -> Iterator[Answer]:
        """Yield one answer for each row, in order; see Answerer."""
        checked_task = task if isinstance(task, Task) else get_task(task)
        yield from read_ahead(rows, lambda row: self.submit(checked_task, row, **options), most=WINDOW)

    def close(self) -> None:
        """End the child; answers that are still waited for fail with ClosedError. A second call does nothing."""
        with self._changed:
            self._closing = True
            child = self._child
            abandoned, self._asked = list(self._asked.values()), {}
            self._changed.notify_all()
        for asking in abandoned:
            _settle(asking.future, error=ClosedError("The model was closed before the answer was there."))
        if child:
            child.send(control_line(Control(0, "close")))
            if abandoned or not child.wait(FAREWELL):
                child.kill()
                child.wait(FAREWELL)
        if threading.current_thread() is not self._thread:
            self._thread.join(FAREWELL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        self._restarts += 1
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
                if self._failed_starts >= STARTS or self._restarts == 0:
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
            _settle(asking.future, error=_crashed())

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

    def _check_open(self) -> None:
        if self._failure:
            raise self._failure
        if self._closing:
            raise ClosedError("The model was closed", step="keep it open until all answers are in")

    def _unasked(self, task: Task, error: EcellmError) -> Answer:
        return Answer(
            id=None,
            task=task.name,
            type=None,
            value=None,
            text=None,
            probability=None,
            probabilities=None,
            confidence=None,
            coverage=None,
            abstained=False,
            usage=None,
            seconds=None,
            model=self.model,
            envelope=self.envelope.name,
            error=RowError.of(error),
        )


def child_command(
    model: str | Path | None = None,
    *,
    memory_bytes: int | None = None,
    nice: int | None = None,
    deterministic: bool = False,
    prefix_files: bool = True,
    **settings: Any,
) -> list[str]:
    """Return the command of a child with these settings."""
    command = [sys.executable, "-m", "ecellm_lite.cli.main", "pipe"]
    settings = {"model": model, "memory_bytes": memory_bytes, "nice": nice, **settings}
    for name, value in settings.items():
        if value is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    if deterministic:
        command.append("--deterministic")
    if not prefix_files:
        command.append("--no-prefix-files")
    return command


def _settle(future: Future[Answer], answer: Answer | None = None, error: EcellmError | None = None) -> None:
    if future.set_running_or_notify_cancel():
        if answer:
            future.set_result(answer)
        else:
            future.set_exception(error or CrashError("The engine's process gave no answer."))


def _error(fields: Any) -> EcellmError:
    return RowError(**fields).exception()


def _crashed() -> CrashError:
    return CrashError(
        "The engine's process died three times while it worked on this request",
        step="leave the row out, and report it with its task",
    )
