"""A task: its question about a row, in the words that the weights were trained on, and the possible answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from ecellm_lite.answers.answer import AnswerWarning
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.text import Text
from ecellm_lite.envelopes import Turn
from ecellm_lite.errors import InputError
from ecellm_lite.tasks.fields import Field, encodable, is_blank, read_fields, shown
from ecellm_lite.tasks.shortening import Long, Values, cuttable, least_cut

_ADVICE = "shorten the row, or allow a larger context if the model has one"


@dataclass(frozen=True, slots=True)
class Question:
    """One row in ECInstruct's own form (the wire format): the texts for an envelope, and the space of possible answers.

    `values`: the row's fields; None if the row came in the wire format.
    `shortened`: what was cut from the fields.
    `advice`: what to do if the prompt is too long.
    `settings`: the settings that the advice is about.
    `warnings`: which parts of the row the model cannot see.
    `stem`: the text that several questions are about, if `text` begins with it; else empty.
    `bare`: the text is the whole prompt, with no envelope around it.
    `turns`: a conversation, which is used instead of `text`; the instruction is its system message.
    """

    instruction: str
    text: str
    options: str | None
    space: Space
    values: Values | None = None
    shortened: str | None = None
    advice: str = field(default=_ADVICE, compare=False)
    settings: Sequence[str] = field(default=("context",), compare=False)
    warnings: Sequence[AnswerWarning] = ()
    stem: str = ""
    bare: bool = False
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Wire:
    """A row's input and options strings as the model sees them, and the space of possible answers.

    `warnings`: which parts of the row are missing in these strings.
    `stem`, `bare`, `turns`: as in Question.
    """

    text: str
    options: str | None
    space: Space
    warnings: Sequence[AnswerWarning] = ()
    stem: str = ""
    bare: bool = False
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One of ECInstruct's tasks, or a user's own.

    `write`: turns the fields of a row into its wire strings.
    `read`: returns the answer space of a row in the wire format, from its strings `input` and `options`.
    `long`: the fields that may be cut to fit a context, in the order of cutting.
    `free_text`: the answer space, if the task answers in free text.
    `source`: the file, if this is a user's task.
    `definition`: the question, if the task was defined in a request (see tasks/questions.py).
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
    long: tuple[Long, ...] = ()
    free_text: Text | None = None
    source: Path | None = None
    definition: Mapping[str, Any] | None = None

    def question(self, row: Mapping[str, Any], *, instruction: str | None = None) -> Question:
        """Return the question of a row. Raises InputError for an invalid row.

        A row may have the task's fields, at the top level or under the key `input`. The question then has
        `instruction`, or the task's own instruction if that is None. Or the row is in the wire format
        {instruction, input, options}. Its strings are then used unchanged.
        """
        if not isinstance(row, Mapping):
            names = ", ".join(field.name for field in self.fields)
            raise InputError(f"A row of {self.name} is {shown(row)}", step=f"give an object with the fields {names}")
        text = row.get("input")
        if isinstance(text, str) and "input" not in {field.name for field in self.fields}:
            return self._wire_question(row, text)
        values = read_fields(self.fields, text if isinstance(text, Mapping) else row)
        return self._ask(values, encodable(instruction or self.instruction))

    def shortened(self, question: Question, needs: Callable[[Question], int], most: int) -> Question:
        """Return the question with its row cut, as little as possible, so that it needs at most `most` tokens.

        `needs` returns how many tokens a question's prompt and answer need. The question is returned unchanged if it
        fits, or if no cut is enough.
        """
        whole = needs(question)
        if question.values is None or whole <= most:
            return question
        instruction = question.instruction
        cut = least_cut(
            self.long, question.values, lambda values: needs(self._ask(values, instruction)), most, whole=whole
        )
        if cut:
            return replace(self._ask(cut.values, instruction), shortened=cut.note)
        fields = " and ".join(cuttable(self.long, question.values))
        advice = f"{_ADVICE} (cutting its {fields} is not enough)"
        return replace(question, advice=advice, settings=("context",)) if fields else question

    def _ask(self, values: Values, instruction: str) -> Question:
        wire = self.write(values)
        fields = " and ".join(cuttable(self.long, values))
        question = Question(
            instruction,
            wire.text,
            wire.options,
            wire.space,
            values,
            warnings=wire.warnings,
            stem=wire.stem,
            bare=wire.bare,
            turns=wire.turns,
        )
        if not fields:
            return question
        advice = f"{_ADVICE}, or let its {fields} be cut"
        return replace(question, advice=advice, settings=("context", "shorten"))

    def _wire_question(self, row: Mapping[str, Any], text: str) -> Question:
        instruction: Any = row.get("instruction")
        options: Any = row.get("options") or None
        texts = {"instruction": instruction, "input": text}
        if options:
            texts["options"] = options
        for name, value in texts.items():
            if not isinstance(value, str) or is_blank(value):
                message = f"The row's input is a text, as in the data set, but its {name} is {shown(value)}"
                step = "give instruction and input as texts, and options as a text or not at all"
                raise InputError(message, step=step, field=name)
        text, options = encodable(text), options and encodable(options)
        return Question(encodable(instruction), text, options, self.read(text, options))

    def example(self) -> dict[str, Any]:
        """Return an example row. For a user's task, it consists of the fields' examples."""
        if self.source or self.definition:
            return {field.name: field.example for field in self.fields}
        text = files("ecellm_lite").joinpath(f"tasks/examples/{self.name}.json").read_text("utf-8")
        example: dict[str, Any] = json.loads(text)
        return example
