"""Free text without a task: the row is either a text to put into the model's envelope, or a whole prompt.

- `{"type": "text"}`: the row has a `text`, and the request's `instruction` says what to do with it.
- `{"type": "prompt"}`: the row has a `prompt`, which the model reads unchanged and without an envelope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ecellm_lite.answers.space import Space
from ecellm_lite.answers.text import Text
from ecellm_lite.tasks.fields import TextField
from ecellm_lite.tasks.task import Task, Wire


def _task(kind: str, field: TextField, space: Text, *, bare: bool) -> Task:
    def write(row: Mapping[str, Any]) -> Wire:
        return Wire(row[field.name], None, space, bare=bare)

    read: Callable[[str, str | None], Space] = lambda text, options: space  # noqa: E731 - its type is said here
    return Task(
        name=kind,
        hub_name="",
        abbreviation="",
        summary=field.doc,
        answers="Free text.",
        instruction="Answer the user.",
        fields=(field,),
        write=write,
        read=read,
        free_text=space,
        definition={"type": kind},
    )


TEXTS = {
    "text": _task("text", TextField("text", "What is said to the model.", "Hello!"), Text(), bare=False),
    "prompt": _task(
        "prompt", TextField("prompt", "What the model goes on with.", "Hello"), Text(whole=True), bare=True
    ),
}
