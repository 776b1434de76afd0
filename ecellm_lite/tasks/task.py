"""A task: the question that it asks about a row, and the possible answers.

ECInstruct's tasks use the words with which the models were trained.
"""

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
from ecellm_lite.envelopes import Turn, WorkedExample
from ecellm_lite.errors import InputError
from ecellm_lite.tasks.fields import Field, encodable, is_blank, read_fields, shown
from ecellm_lite.tasks.shortening import Long, Values, cuttable, least_cut
from ecellm_lite.tasks.unknown_fields import misspelt_keys, unknown_field_warnings
from ecellm_lite.tasks.worked_examples import WorkedExamples

_ADVICE = "shorten the row, or allow a larger context if the model has one"


@dataclass(frozen=True, slots=True)
class Question:
    """The question that a task asks about one row: the texts of the prompt, and the space of possible answers.

    `text`, `options`: the strings `input` and `options` of ECInstruct's own form (the wire format).
    `values`: the row's fields, or None if the row came in the wire format.
    `shortened`: what was cut from the fields.
    `advice`: what to do if the prompt is too long.
    `settings`: the settings that the advice is about.
    `warnings`: which parts of the row the model cannot see.
    `stem`: the beginning of `text` that all questions about the same state (a text) share. Empty if there is none.
    `bare`: whether `text` is the whole prompt, with no envelope around it.
    `turns`: a conversation that replaces `text`. Its system message is the instruction.
    `examples`: worked examples. In the prompt, they come between the instruction and the text.
    `nearest`: whether the examples were chosen for this row. If not, all rows of the task have the same examples.
    `wording`: the instruction, and a hash of the task's examples if it has any. A calibration is fitted to one wording.
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
    examples: tuple[WorkedExample, ...] = ()
    nearest: bool = False
    wording: str = ""

    @property
    def answers(self) -> str | None:
        """A text that identifies the possible answers, so that a calibration can be limited to them.

        The text is a hash of the labels if the prompt does not list them. Otherwise it is `options`, which may be None.
        """
        return self.space.digest or self.options


@dataclass(frozen=True, slots=True)
class Wire:
    """The parts of a prompt that come from a row.

    `text`, `options`: the strings `input` and `options` of ECInstruct's own form (the wire format).
    `space`: the possible answers.
    `warnings`: which parts of the row are missing in these strings.
    `stem`: the beginning of `text` that all questions about the same state share; empty if there is none.
    `bare`: whether `text` is the whole prompt, with no envelope around it.
    `turns`: a conversation that replaces `text`.
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
    """A task: built-in, a user's own, or defined by a request.

    `hub_name`: the task's name in the data set, such as `Sentiment_Analysis`. Empty if the task is not built-in.
    `answers`: the possible answers, in words.
    `write`: turns the fields of a row into the strings of the prompt.
    `read`: takes the strings `input` and `options` of a row in the wire format, and returns the answer space.
    `long`: the fields that may be cut to fit a context, in the order in which they are cut.
    `free_text`: the answer space, if the task answers in free text.
    `source`: the task's file, if this is a user's task.
    `definition`: the question, if a request defined the task (see tasks/questions.py).
    `examples`: rows with their correct answers, which the model reads before a row.
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
    examples: WorkedExamples | None = None

    @property
    def wording(self) -> str:
        """The task's own instruction, followed by a hash of its worked examples if it has any.

        If a question uses the task's own instruction, this text is also the `wording` of the question.
        """
        return self._wording(self.instruction)

    def question(self, row: Mapping[str, Any], *, instruction: str | None = None) -> Question:
        """Return the question that the task asks about a row. Raises InputError for an invalid row.

        A row may have the task's fields, at the top level or under the key `input`. The question then has the
        instruction `instruction`, or the task's own instruction if `instruction` is None.

        A row may also be in the wire format {instruction, input, options}. The row's strings are then used unchanged,
        and no examples are added.
        """
        if self._is_wire(row):
            return self._wire_question(row)
        values = read_fields(self.fields, _fields_of(row))
        return self._ask(values, encodable(instruction or self.instruction))

    def needed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of a row that `question` reads. This part gives the same question as the whole row.

        Keys that are probably misspelt stay, with null as their value, so that `warnings` still names them.

        Raises InputError, as `question` does, if this part has an invalid value.
        """
        if self._is_wire(row):
            return _wire_texts(row)
        values = _fields_of(row)
        read_fields(self.fields, values)
        kept = {field.name: values[field.name] for field in self.fields if field.name in values}
        return {**kept, **dict.fromkeys(misspelt_keys(self.fields, values))}

    def warnings(self, row: Mapping[str, Any]) -> Sequence[AnswerWarning]:
        """Return a warning about keys of a valid row that are probably misspelt. Empty if there are none."""
        return () if self._is_wire(row) else unknown_field_warnings(self.fields, _fields_of(row))

    def _is_wire(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row is in the wire format. Raises InputError if the row is not an object."""
        if not isinstance(row, Mapping):
            names = ", ".join(field.name for field in self.fields)
            raise InputError(f"A row of {self.name} is {shown(row)}", step=f"give an object with the fields {names}")
        return isinstance(row.get("input"), str) and "input" not in {field.name for field in self.fields}

    def shortened(self, question: Question, needs: Callable[[Question], int], most: int) -> Question:
        """Return the question with its row cut as little as possible, so that it needs at most `most` tokens.

        `needs` returns how many tokens a question's prompt and answer need. Examples that were chosen for the row are
        left out first. Nothing is cut if the question already fits, or if no cut would make it fit.
        """
        whole = needs(question)
        if question.values is None or whole <= most:
            return question
        fewer = question
        while fewer.nearest and fewer.examples and whole > most:
            fewer = replace(fewer, examples=fewer.examples[1:])  # the nearest one is the last
            whole = needs(fewer)
        notes = []
        if len(fewer.examples) < len(question.examples):
            notes.append(f"examples: the nearest {len(fewer.examples)} of {len(question.examples)}")
        if whole <= most:
            return replace(fewer, shortened=notes[0])
        instruction, examples = question.instruction, fewer.examples

        def needed(values: Values) -> int:
            return needs(self._ask(values, instruction, examples))

        cut = least_cut(self.long, question.values, needed, most, whole=whole)
        if cut:
            notes.append(cut.note)
            return replace(self._ask(cut.values, instruction, examples), shortened="; ".join(notes))
        fields = " and ".join(self._cuttable(question.values))
        advice = f"{_ADVICE} (cutting its {fields} is not enough)"
        return replace(question, advice=advice, settings=("context",)) if fields else question

    def _ask(self, values: Values, instruction: str, examples: tuple[WorkedExample, ...] | None = None) -> Question:
        """Return the question about a row's values. If `examples` is None, examples are chosen for the row."""
        wire = self.write(values)
        if examples is None:
            examples = self.examples.of(wire.text) if self.examples else ()
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
            examples=examples,
            nearest=self.examples is not None and self.examples.nearest is not None,
            wording=self._wording(instruction),
        )
        fields = " and ".join(self._cuttable(values))
        if not fields:
            return question
        advice = f"{_ADVICE}, or let its {fields} be cut"
        return replace(question, advice=advice, settings=("context", "shorten"))

    def _cuttable(self, values: Values) -> list[str]:
        """Return what may be cut in a row's prompt: names of fields, and "examples" if each row has its own."""
        examples = ["examples"] if self.examples and self.examples.nearest else []
        return [*examples, *cuttable(self.long, values)]

    def _wording(self, instruction: str) -> str:
        return f"{instruction}\n{self.examples.digest}" if self.examples else instruction

    def _wire_question(self, row: Mapping[str, Any]) -> Question:
        texts = {name: encodable(text) for name, text in _wire_texts(row).items()}
        instruction, text, options = texts["instruction"], texts["input"], texts.get("options")
        return Question(instruction, text, options, self.read(text, options), wording=instruction)

    def example(self) -> dict[str, Any]:
        """Return an example of a row.

        For a user's task or a question, the row has the example value of each field.
        """
        if self.source or self.definition:
            return {field.name: field.example for field in self.fields}
        text = files("ecellm_lite").joinpath(f"tasks/examples/{self.name}.json").read_text("utf-8")
        example: dict[str, Any] = json.loads(text)
        return example


def _fields_of(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object with a row's fields: the row itself, or the object under its key `input`."""
    inner = row.get("input")
    return inner if isinstance(inner, Mapping) else row


def _wire_texts(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of a row in the wire format. Raises InputError for a value that is blank, or not a text."""
    names = ("instruction", "input", "options") if row.get("options") else ("instruction", "input")
    texts: dict[str, str] = {}
    for name in names:
        value = row.get(name)
        if not isinstance(value, str) or is_blank(value):
            message = f"The row's input is a text, as in the data set, but its {name} is {shown(value)}"
            step = "give instruction and input as texts, and options as a text or not at all"
            raise InputError(message, step=step, field=name)
        texts[name] = value
    return texts
