"""What the table [answer] of a user's task file defines, and what its answer types have in common.

The answer types themselves are in answer_types.py, custom_choices.py and custom_texts.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from ecellm_lite.answers.space import Space
from ecellm_lite.answers.text import Text
from ecellm_lite.errors import InputError
from ecellm_lite.tasks.fields import Field, TextField
from ecellm_lite.tasks.table import TaskTable
from ecellm_lite.tasks.task import Wire

LONGEST_LABEL = 200  # characters

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the table [answer] of a task's file defines.

    `description`: the possible answers, in words.
    `fields`: the task's fields. The answer type may have added limits to them.
    `write`: turns the fields of a row into the strings of the prompt.
    `read`: takes the strings `input` and `options` of a row in the wire format, and returns the answer space.
    `free_text`: the answer space, if the task answers in free text.
    `subject`: the list field that the answers refer to, such as the products to rank. It is never shortened.
    """

    description: str
    fields: tuple[Field, ...]
    write: Callable[[Row], Wire]
    read: Callable[[str, str | None], Space]
    free_text: Text | None = None
    subject: str | None = None


def same_for_rows(description: str, fields: tuple[Field, ...], space: Space, options: str | None = None) -> Answers:
    """Return the Answers of a task whose answer space and options are the same for every row."""

    def write(row: Row) -> Wire:
        return Wire(input_text(fields, row), options, space)

    def read(text: str, options: str | None) -> Space:
        return space

    return Answers(description, fields, write, read)


def input_text(fields: Sequence[Field], row: Row) -> str:
    """Return a row as the string `input` of the prompt.

    If the task has a single text field, this is the field's text. Otherwise it is the row as JSON.
    """
    if len(fields) == 1 and isinstance(fields[0], TextField):
        text: str = row[fields[0].name]
        return text
    return json_text(row)


def json_text(value: Any) -> str:
    """Return a value as JSON. Non-ASCII characters are not escaped."""
    return json.dumps(value, ensure_ascii=False)


def lettered(lines: Sequence[str]) -> str:
    """Return the options of a prompt as JSON. Each line begins with its letter, such as "A: positive"."""
    return json_text([f"{letter}: {line}" for letter, line in zip(ascii_uppercase, lines, strict=False)])


def one_key_error(table: TaskTable, key: str, other: str) -> InputError:
    """Return the error for a table that must have exactly one of two keys, but has both or neither."""
    reason = f"is given as well as {other}" if key in table else "is missing"
    return table.error(key, reason, f"give either {key} or {other}")
