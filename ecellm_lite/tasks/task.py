"""A task: what is asked of a row, in the exact strings that the weights were trained on, and what may be answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ecellm_lite.answers.decoding import Space
from ecellm_lite.answers.text import Text
from ecellm_lite.errors import InputError
from ecellm_lite.tasks.fields import Field, encodable, read_fields, shown


@dataclass(frozen=True, slots=True)
class Question:
    """One row in the wire format: the texts that go into an envelope, and the space of its answers."""

    instruction: str
    text: str
    options: str | None
    space: Space


@dataclass(frozen=True, slots=True)
class Wire:
    """A row's input and options strings as the model sees them, and the space of its answers."""

    text: str
    options: str | None
    space: Space


@dataclass(frozen=True, slots=True)
class Task:
    """One of ECInstruct's tasks, or a user's own.

    `write` turns the fields of a row into its wire strings; `read` finds the answer space of strings that are in
    the wire format already (input, options). `free_text` is the space of a task that answers in free text,
    `long_fields` names the fields that may be shortened, and `source` is the file that a user's own task stands in.
    """

    name: str
    hub_name: str
    abbreviation: str
    summary: str
    answers: str
    instruction: str
    fields: tuple[Field, ...]
    write: Callable[[Mapping[str, Any]], Wire]
    read: Callable[[str, str | None], Space]
    free_text: Text | None = None
    long_fields: tuple[str, ...] = ()
    source: Path | None = None

    def question(self, row: Mapping[str, Any], *, instruction: str | None = None) -> Question:
        """Return what a row asks, with the task's seed instruction or another; raises InputError.

        A row has the task's fields, at the top or under `input`; or it is in the data set's own form
        {instruction, input, options}, whose strings are taken as they stand, its own instruction among them.
        """
        if not isinstance(row, Mapping):
            raise InputError(f"A row is an object with the fields of {self.name}, not {shown(row)}.")
        given = row.get("input")
        if isinstance(given, str) and "input" not in {field.name for field in self.fields}:
            return self._as_it_stands(row, given)
        wire = self.write(read_fields(self.fields, given if isinstance(given, Mapping) else row))
        return Question(encodable(instruction or self.instruction), wire.text, wire.options, wire.space)

    def _as_it_stands(self, row: Mapping[str, Any], text: str) -> Question:
        instruction, options = row.get("instruction"), row.get("options")
        if not isinstance(instruction, str) or not isinstance(options, str | None):
            raise InputError(
                "A row whose input is a text is in the data set's form, and needs instruction and options as texts "
                f"too (options may be left out): {shown({'instruction': instruction, 'options': options})}."
            )
        text, instruction = encodable(text), encodable(instruction)
        options = encodable(options) if options else None
        return Question(instruction, text, options, self.read(text, options))

    def example(self) -> dict[str, Any]:
        """Return a made-up row of this task; a user's own is made of its fields' examples."""
        if self.source:
            return {field.name: field.example for field in self.fields}
        text = files("ecellm_lite").joinpath(f"tasks/examples/{self.name}.json").read_text("utf-8")
        example: dict[str, Any] = json.loads(text)
        return example
