"""A session with one host: a program that sends requests to an Answerer.

Requests are read in order. Each answer is sent as soon as it is ready.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any

from ecellm_lite.answerer import Answerer
from ecellm_lite.answers.answer import Answer
from ecellm_lite.errors import EcellmError, ProtocolError
from ecellm_lite.pipe.kept_tasks import KeptTasks
from ecellm_lite.pipe.lines import MOST_BYTES, MOST_MESSAGES, Output
from ecellm_lite.pipe.messages import (
    LONGEST_LINE,
    PROTOCOL,
    Ask,
    Control,
    Id,
    answer_line,
    error_line,
    line_of,
    read_message,
)
from ecellm_lite.pipe.options import request_options
from ecellm_lite.pipe.parts import Parts
from ecellm_lite.tasks.description import describe
from ecellm_lite.tasks.questions import question_task
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.version import __version__

# Returns whether the engine is busy, and how many times it has called the model.
Progress = Callable[[], tuple[bool, int]]

_REPLIES = {"ping": "pong"}  # every other reply has the type of its request


class Session:
    """Reads the requests of one host and sends it the answers.

    Each request gets exactly one final line: an answer, an error or a cancellation, with its id.
    """

    def __init__(self, answerer: Answerer, output: Output, progress: Progress | None = None) -> None:
        self._answerer = answerer
        self._output = output
        self._progress = progress
        self._started = time.monotonic()
        self._changed = threading.Condition()
        self._in_flight: dict[Id, Future[Answer]] = {}
        self._tasks = KeptTasks()
        self._counts = {"answered": 0, "failed": 0, "cancelled": 0}

    def run(self, lines: Iterable[bytes]) -> None:
        """Send the `ready` message, read requests until the input ends, and finish the requests in progress.

        A `close` request has the same effect as the end of the input.
        If the host no longer reads the answers, the requests in progress are cancelled.
        """
        self._output.take_room(0)
        self._send(self._ready(), 0)
        for line in lines:
            if not self._output.take_room(len(line)):
                break
            closing = self._take(line)
            if closing is not None:
                self._drain()
                self._send({"type": "closed", "id": closing}, len(line))
                return
        self._drain()

    def _take(self, line: bytes) -> Id | None:
        """Handle a line. Return the id of a `close` request, or None for any other line."""
        id_: Id | None = None
        try:
            message = read_message(line)
            id_ = message.id
            if isinstance(message, Ask):
                self._ask(message, len(line))
            elif message.kind == "close":
                return message.id
            elif message.kind == "cancel":
                self._cancel(message.id, len(line))
            else:
                self._output.put(partial(self._reply, message), len(line))
        except EcellmError as error:
            if isinstance(error, ProtocolError) and error.id is not None:
                id_ = error.id
            self._output.put(partial(error_line, id_, error), len(line))
        except Exception as error:  # noqa: BLE001 - a bug must not end the other requests
            self._output.put(partial(error_line, id_, _fault(error)), len(line))
        return None

    def _ask(self, ask: Ask, size: int) -> None:
        with self._changed:
            if ask.id in self._in_flight:
                message = f"The id {str(ask.id)[:80]!r} belongs to a request that has no answer yet"
                raise ProtocolError(message, step="give each request an id of its own", field="id")
        task = self._tasks.get(ask.task) if isinstance(ask.task, str) else question_task(ask.task)
        options = request_options(task, ask.options)
        if ask.options.get("stream"):
            options["listener"] = Parts(ask.id, self._output)
        future = self._answerer.submit(task, ask.row, **options)
        with self._changed:
            self._in_flight[ask.id] = future
        future.add_done_callback(partial(self._ended, ask.id, size))

    def _ended(self, id_: Id, size: int, future: Future[Answer]) -> None:
        if future.cancelled():
            outcome, line = "cancelled", partial(line_of, {"type": "cancelled", "id": id_})
        elif error := future.exception():
            failure = error if isinstance(error, EcellmError) else _fault(error)
            outcome, line = "failed", partial(error_line, id_, failure)
        else:
            answer = future.result()
            outcome, line = "failed" if answer.error else "answered", partial(answer_line, id_, answer)
        self._output.put(line, size)
        with self._changed:
            self._counts[outcome] += 1
            del self._in_flight[id_]
            self._changed.notify_all()

    def _cancel(self, id_: Id, size: int) -> None:
        """Cancel a request. Its `cancelled` line is written when the request's future has ended."""
        with self._changed:
            future = self._in_flight.get(id_)
        if future is None:
            raise ProtocolError(
                f"No request with the id {str(id_)[:80]!r} is waiting for an answer",
                step="it has its answer already, or was never sent",
                field="id",
            )
        future.cancel()
        self._output.put(bytes, size)

    def _reply(self, control: Control) -> bytes:
        """Return the line that replies to a control request.

        The reply is made only just before it is written. So if the host does not read, no replies pile up in memory.
        """
        try:
            return line_of({"type": _REPLIES.get(control.kind, control.kind), "id": control.id, **self._facts(control)})
        except EcellmError as error:
            return error_line(control.id, error)
        except Exception as error:  # noqa: BLE001 - as in _take
            return error_line(control.id, _fault(error))

    def _facts(self, control: Control) -> dict[str, Any]:
        if control.kind == "tasks":
            return {"tasks": [describe(get_task(name)) for name in self._answerer.tasks]}
        busy, calls = self._progress() if self._progress else (bool(self._in_flight), None)
        if control.kind == "ping":
            return {"busy": busy, "calls": calls}
        with self._changed:
            counts = {"in_flight": len(self._in_flight), **self._counts}
        seconds = round(time.monotonic() - self._started, 3)
        return {"stats": {**counts, "calls": calls, "seconds": seconds}}

    def _ready(self) -> dict[str, Any]:
        model = self._answerer.model
        return {
            "type": "ready",
            "protocol": PROTOCOL,
            "version": __version__,
            "model": {
                "name": model.name,
                "sha256": model.sha256,
                "envelope": self._answerer.envelope.name,
                "placement": self._placement(),
            },
            "tasks": list(self._answerer.tasks),
            "adapters": dict(self._answerer.adapters),
            "limits": {"line_bytes": LONGEST_LINE, "requests": MOST_MESSAGES, "request_bytes": MOST_BYTES},
        }

    def _placement(self) -> dict[str, Any] | None:
        """Return which of the model's layers are on which GPU, or None if the engine is in another process."""
        placement = getattr(self._answerer, "placement", None)
        return placement and {"description": placement.description, "gpu_layers": placement.n_gpu_layers}

    def _send(self, message: dict[str, Any], size: int) -> None:
        self._output.put(partial(line_of, message), size)

    def _drain(self) -> None:
        with self._changed:
            while self._in_flight and self._output.has_reader():
                self._changed.wait(1)
            abandoned = list(self._in_flight.values())
        for future in abandoned:
            future.cancel()


def _fault(error: BaseException) -> EcellmError:
    return EcellmError(f"A bug in ecellm-lite: {type(error).__name__}: {error}.")
