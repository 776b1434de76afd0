"""Answers rows in a child process that may crash, hang or print anything, and reports what happened."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import IO, Any

from ecellm_lite.answers.answer import Answer, RowError
from ecellm_lite.errors import EcellmError
from ecellm_lite.exit_codes import ending
from ecellm_lite.pipe.child import Child, Message
from ecellm_lite.pipe.messages import Ask, Control, ask_line, control_line

# How much of the end of standard error is kept: bytes, lines, and characters per line. The lines include the stack
# traces of faulthandler, of Python and (from 3.14 on) of C.
_TAIL = 1 << 15
_LINES = 80
_LINE = 300

# A process that has written this many bytes to standard error is stopped, as it could fill the disk.
_MOST = 1 << 26

_LOOK = 0.1  # seconds between two checks of how much it has written
_GRACE = 10.0  # seconds for a killed process to end; one that hangs inside a driver may never end


@dataclass(slots=True)
class Attempt:
    """The result of a child process: the facts about its model, its answers, and the error that it reported, if any.

    `load_seconds`: the time until the model was loaded.
    `trouble`: what went wrong, as the rest of a sentence that begins with "its process". It is empty if nothing went
      wrong.
    `last_lines`: the last lines of the process's standard error.
    """

    model: Mapping[str, Any] | None = None
    load_seconds: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    error: EcellmError | None = None
    trouble: str = ""
    last_lines: tuple[str, ...] = ()


def attempt(command: Sequence[str], requests: Sequence[Ask], seconds: float) -> Attempt:
    """Start a process that speaks the pipe's protocol, send the requests one after another, and end the process.

    The process is killed after `seconds`, or if it writes too much to standard error. A failure is reported in the
    result and not raised.
    """
    result = Attempt()
    news: SimpleQueue[Message | Answer | EcellmError | None] = SimpleQueue()
    started = time.perf_counter()
    # A file, not a pipe: a process that cannot be killed would keep the pipe open.
    with tempfile.TemporaryFile() as errors:
        try:
            child = Child(command, lambda _, message: news.put(_read(message)), lambda _: news.put(None), errors=errors)
        except OSError as error:
            result.trouble = f"could not be started ({error.strerror or error})"
            return result
        lines = [*map(ask_line, requests), control_line(Control("end", "close"))]
        try:
            while (remaining := started + seconds - time.perf_counter()) > 0:
                try:
                    message = news.get(timeout=min(remaining, _LOOK))
                except Empty:
                    if os.fstat(errors.fileno()).st_size > _MOST:
                        result.trouble = _stop(child, f"wrote more than {_MOST >> 20} MiB")
                        break
                    continue
                if message is None:
                    result.trouble = _ending(child)
                    break
                if isinstance(message, Answer):
                    result.answers.append(message)
                elif isinstance(message, EcellmError):
                    result.error = message
                    lines = lines[-1:]
                elif message["type"] == "ready":
                    result.model, result.load_seconds = message["model"], time.perf_counter() - started
                if lines:
                    child.send(lines.pop(0))
            else:
                result.trouble = _stop(child, f"did not end within {seconds:g} s")
        finally:
            child.kill()  # if this process is interrupted
        result.last_lines = _last_lines(errors)
    return result


def _read(message: Message) -> Message | Answer | EcellmError:
    """Return the answer or the error in a message. Any other message is returned unchanged.

    Raises ValueError, LookupError or TypeError for a malformed message.
    """
    if message["type"] == "answer":
        return Answer.from_dict(message["answer"])
    if message["type"] == "error":
        return RowError(**message["error"]).exception()
    if message["type"] == "ready" and not isinstance(message["model"]["name"], str):
        raise TypeError
    return message


def _ending(child: Child) -> str:
    if child.misunderstood:
        return f"wrote what is not a message of the protocol ({child.misunderstood.decode('utf-8', 'replace')!r})"
    return ending(child.exit_code)


def _stop(child: Child, failure: str) -> str:
    """End a process that failed. If it can still react, it first prints a stack trace.

    Return one text: `failure`, and then whether the process could be ended.
    """
    child.abort()
    if not child.wait(_GRACE / 10):
        child.kill()
        if not child.wait(_GRACE):
            return f"{failure} and cannot be killed: it hangs inside a driver, and only a restart ends it"
    return f"{failure} and was stopped"


def _last_lines(errors: IO[bytes]) -> tuple[str, ...]:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(size - _TAIL, 0))
    lines = errors.read().decode("utf-8", "replace").splitlines()
    return tuple(line[:_LINE] for line in lines if line.strip())[-_LINES:]
