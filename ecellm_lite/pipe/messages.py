"""The messages of the protocol, one JSON object per line: the host's requests, and the replies to them.

docs/pipe.md describes the protocol for authors of clients. protocol.schema.json defines every message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from ecellm_lite.answers.answer import Answer, RowError
from ecellm_lite.errors import EcellmError, ProtocolError
from ecellm_lite.tasks.written import as_written, read_strict_json

PROTOCOL = 1
LONGEST_LINE = 16 << 20  # bytes, including the line end

# A request's id, a number or a text, which is repeated in its answer.
Id = str | int


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to answer a row. `task` is the name of a task, or an object that defines a question."""

    id: Id
    task: str | Mapping[str, Any]
    row: Any
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Control:
    """A request without a row. `kind` is `cancel`, `ping`, `tasks`, `stats` or `close`."""

    id: Id
    kind: str


Message = Ask | Control

CONTROLS = frozenset(("cancel", "ping", "tasks", "stats", "close"))
_ASK_KEYS = {"id", "type", "task", "row", "options"}
_FIRST_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*("(?:[^"\\]|\\.){0,1536}"|-?[0-9]{1,16})\s*[,}]')


def read_message(line: bytes) -> Message:
    """Return the message in a line.

    Raises ProtocolError for an invalid line. If the line has a request's id, the error has it too.
    """
    if len(line) > LONGEST_LINE:
        raise ProtocolError(
            f"The line has more than {LONGEST_LINE:,} bytes",
            step="send a shorter row, or shorten its texts",
            id=_first_id(line),
        )
    try:
        data = read_strict_json(line)
    except (ValueError, RecursionError) as error:
        message = f"The line is not JSON ({error})"
        raise ProtocolError(message, step="send one JSON object per line", id=_first_id(line)) from None
    if not isinstance(data, dict):
        raise ProtocolError(f"The line is {_kind(data)}", step="send one JSON object per line")
    id_ = _id(data)
    kind = data.get("type", "answer")
    if kind in CONTROLS if isinstance(kind, str) else False:
        _refuse_other_keys(data, {"id", "type"}, id_)
        return Control(id_, kind)
    if kind != "answer":
        types = ", ".join(["answer", *sorted(CONTROLS)])
        raise ProtocolError(
            f"There is no request of type {str(kind)[:80]!r}", step=f"send one of {types}", field="type", id=id_
        )
    _refuse_other_keys(data, _ASK_KEYS, id_)
    task, options = data.get("task"), data.get("options")
    if not isinstance(task, str | dict):
        raise ProtocolError(
            f"The task is {_kind(task)}", step="give a task's name, or a question", field="task", id=id_
        )
    if "row" not in data:
        raise ProtocolError("The request has no row", step="give the task's fields as row", field="row", id=id_)
    if not isinstance(options, dict | None):
        raise ProtocolError(f"The options are {_kind(options)}", step="give an object", field="options", id=id_)
    return Ask(id_, task, data["row"], options or {})


def ask_line(ask: Ask) -> bytes:
    """Return a request as a line."""
    return line_of({"id": ask.id, "task": ask.task, "row": as_written(ask.row), "options": ask.options})


def control_line(control: Control) -> bytes:
    """Return a control request (one without a row, such as `ping` or `cancel`) as a line."""
    return line_of({"id": control.id, "type": control.kind})


def answer_line(id_: Id, answer: Answer) -> bytes:
    """Return the answer to a request as a line. An answer that cannot be written as JSON becomes an error line."""
    try:
        return line_of({"type": "answer", "id": id_, "answer": answer.as_dict()})
    except (ValueError, RecursionError) as error:
        return error_line(id_, EcellmError(f"The answer cannot be written as JSON ({error})."))


def error_line(id_: Id | None, error: EcellmError) -> bytes:
    """Return the line that reports an invalid request, or a request that the engine failed to answer."""
    row_error = RowError.of(error)
    fields = {"code": row_error.code, "message": row_error.message, "field": row_error.field, "step": row_error.step}
    return line_of({"type": "error", "id": id_, "error": fields})


def line_of(message: Mapping[str, Any]) -> bytes:
    """Return a message as one line of ASCII JSON."""
    return json.dumps(message, allow_nan=False).encode("ascii") + b"\n"


def _id(data: dict[str, Any]) -> Id:
    id_ = data.get("id")
    if _is_id(id_):
        return id_
    what = "has no id" if id_ is None else f"has the id {str(id_)[:80]!r}"
    raise ProtocolError(
        f"The request {what}", step="give a text of at most 256 characters or a whole number", field="id"
    )


def _is_id(value: Any) -> TypeGuard[Id]:
    if isinstance(value, str):
        return len(value) <= 256
    # Larger whole numbers are not exact in JavaScript.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53


def _first_id(line: bytes) -> Id | None:
    """Return the id at the beginning of an invalid line, or None. The sender waits for a reply with this id."""
    if match := _FIRST_ID.match(line):
        try:
            id_ = json.loads(match[1])
        except ValueError:
            return None
        return id_ if _is_id(id_) else None
    return None


def _refuse_other_keys(data: Mapping[str, Any], keys: set[str], id_: Id) -> None:
    if unknown := sorted(data.keys() - keys):
        names = ", ".join(sorted(keys))
        raise ProtocolError(
            f"The request has the unknown key {unknown[0][:80]!r}", step=f"send {names}", field=unknown[0][:80], id=id_
        )


def _kind(value: Any) -> str:
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return "missing" if value is None else names.get(type(value), "a number")
