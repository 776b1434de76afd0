"""Free text without a task: the row is a conversation, a text to put into the model's envelope, or a whole prompt.

- `{"type": "text"}`: the row has a `text`, and the request's `instruction` says what to do with it.
- `{"type": "chat"}`: the row has `messages`, and the request's `instruction` is the system message.
- `{"type": "prompt"}`: the row has a `prompt`, which the model reads unchanged and without an envelope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ecellm_lite.answers.space import Space
from ecellm_lite.answers.text import Text
from ecellm_lite.envelopes import Turn
from ecellm_lite.errors import InputError
from ecellm_lite.tasks.fields import Field, TextField, encodable, shown
from ecellm_lite.tasks.task import Task, Wire

MOST_TURNS = 1000


@dataclass(frozen=True, slots=True)
class TurnsField:
    """A field with a conversation: a list of objects with a `role` (user or assistant) and a `content` (a text)."""

    name: str
    doc: str
    example: Sequence[Mapping[str, str]]
    required: bool = True
    kind: ClassVar[str] = "a list of messages"

    def read(self, value: Any, place: str) -> tuple[Turn, ...]:
        """Check a conversation, and return its messages. `place`: how error messages name the conversation."""
        if not isinstance(value, list) or not 1 <= len(value) <= MOST_TURNS:
            raise InputError(
                f"{place} is {shown(value)}", step=f"give a list of 1 to {MOST_TURNS:,} messages", field=place
            )
        return tuple(_turn(message, f"{place}[{index}]") for index, message in enumerate(value))


def _turn(message: Any, place: str) -> Turn:
    fields = message if isinstance(message, Mapping) else {}
    role, content = fields.get("role"), fields.get("content")
    if (role != "user" and role != "assistant") or not isinstance(content, str):
        step = "give an object with a role, user or assistant, and its content, a text"
        raise InputError(f"{place} is {shown(message)}", step=step, field=place)
    return Turn(role, encodable(content))


def _task(kind: str, field: Field, space: Text, write: Callable[[Mapping[str, Any]], Wire], instruction: str) -> Task:
    read: Callable[[str, str | None], Space] = lambda text, options: space  # noqa: E731 - its type is said here
    return Task(
        name=kind,
        hub_name="",
        abbreviation="",
        summary=field.doc,
        answers="Free text.",
        instruction=instruction,
        fields=(field,),
        write=write,
        read=read,
        free_text=space,
        definition={"type": kind},
    )


TEXTS = {
    "text": _task(
        "text",
        TextField("text", "The text that the model answers.", "Hello!"),
        Text(),
        lambda row: Wire(row["text"], None, Text()),
        "Answer the user.",
    ),
    "chat": _task(
        "chat",
        TurnsField("messages", "A conversation.", [{"role": "user", "content": "Hello!"}]),
        Text(),
        lambda row: Wire("", None, Text(), turns=row["messages"]),
        "",  # no system message
    ),
    "prompt": _task(
        "prompt",
        TextField("prompt", "The text that the model continues.", "Hello"),
        Text(whole=True),
        lambda row: Wire(row["prompt"], None, Text(whole=True), bare=True),
        "Answer the user.",
    ),
}
