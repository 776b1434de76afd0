"""A typed question about any text: a task that a request defines.

    {"type": "predicate", "instructions": "Does the customer want a refund?"}
    {"type": "choice", "instructions": "Which desk?", "choices": [{"value": "billing", "description": "invoices"}, …]}
    {"type": "score", "instructions": "How urgent is it?", "levels": [{"label": "low"}, {"label": "high"}]}

A row has one field, `state`: the text that the question is about. In the prompt, the question comes after the state, so
the model reads a state only once for several questions.

In the prompt, the levels or choices have letters, like ECInstruct's options, and the model answers with a letter. If
there are more than 26 choices, they have no letters, and the model answers with the value itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.options import Option
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.score import Score
from ecellm_lite.answers.space import Space
from ecellm_lite.errors import InputError
from ecellm_lite.strict import decode
from ecellm_lite.tasks.fields import TextField, encodable
from ecellm_lite.tasks.task import Task, Wire
from ecellm_lite.tasks.texts import TEXTS
from ecellm_lite.tasks.wire import LONGEST_OPTIONS

# The same for all types, because a state is read only once if the text before it is the same.
INSTRUCTION = "Read the text and answer the question about it. Answer with one of the options."

STATE = TextField(
    "state",
    "What the question is about.",
    "These headphones sound great, but the left ear stopped working after a week.",
)

MAX_CHOICES = 255
MAX_LEVELS = 10
LONGEST_INSTRUCTIONS = 1 << 16  # characters
LONGEST_VALUE = 1000


@dataclass(frozen=True, slots=True)
class OfferedChoice:
    """One of a question's choices: its value, and an optional description of what the value means."""

    value: str
    description: str | None = None


@dataclass(frozen=True, slots=True)
class OfferedLevel:
    """A level of a score: its label, and an optional description of what the label means."""

    label: str
    description: str | None = None


@dataclass(frozen=True, slots=True)
class QuestionForm:
    """The definition of a question.

    `choices`: only for a question of the type `choice`. `levels`: only for the type `score`, with the lowest level
    first.
    """

    type: str
    instructions: str
    choices: list[OfferedChoice] | None = None
    levels: list[OfferedLevel] | None = None


# What a question of each type must have besides its instructions.
_NEEDED = {"predicate": None, "choice": "choices", "score": "levels"}

# How each item of a list is written.
_ITEMS = {"choices": (OfferedChoice, "value"), "levels": (OfferedLevel, "label")}


def question_task(definition: Mapping[str, Any], place: str = "task") -> Task:
    """Return the task that asks a question. The task's name contains a hash of the question.

    For a definition with only a type, such as {"type": "chat"}, return the task of this type from texts.py. Its answers
    are free text.

    `place`: the path of the definition in the request.

    Raises InputError for an invalid definition. The error says which part is invalid.
    """
    kind = definition.get("type")
    if len(definition) == 1 and isinstance(kind, str) and kind in TEXTS:
        return TEXTS[kind]
    try:
        return _task(definition)
    except InputError as error:
        error.field = f"{place}.{error.field}" if error.field else place
        raise


def _task(definition: Mapping[str, Any]) -> Task:
    try:
        form = decode(QuestionForm, definition, "question")
    except ValueError as error:
        _check_items(definition)
        step = 'write it like {"type": "predicate", "instructions": "Is the customer satisfied?"}'
        raise InputError(f"{error}", step=step) from None
    lines, space = _offered(form)
    options = json.dumps(lines, ensure_ascii=False)
    if len(form.instructions) > LONGEST_INSTRUCTIONS:
        raise _wrong("instructions", f"has {len(form.instructions):,} characters", f"at most {LONGEST_INSTRUCTIONS:,}")
    if len(options) > LONGEST_OPTIONS:
        raise _wrong("choices", f"has {len(options):,} characters in all", f"at most {LONGEST_OPTIONS:,}")
    question = encodable(form.instructions)
    digest = hashlib.sha256(json.dumps([form.type, question, lines]).encode()).hexdigest()

    def write(row: Mapping[str, Any]) -> Wire:
        stem = f"{row['state']}\n\nQuestion: "
        return Wire(f"{stem}{question}", options, space, stem=stem)

    return Task(
        name=f"question_{digest[:16]}",
        hub_name="",
        abbreviation="",
        summary="A question about a state.",
        answers="One of the question's possible answers.",
        instruction=INSTRUCTION,
        fields=(STATE,),
        write=write,
        read=lambda text, options: space,
        definition=definition,
    )


def _offered(form: QuestionForm) -> tuple[list[str], Space]:
    """Return the lines of the prompt that list the possible answers. Also return the answer space."""
    _check_parts(form)
    if form.choices:
        values = [encodable(choice.value) for choice in form.choices]
        lines = [_line(value, choice.description) for value, choice in zip(values, form.choices, strict=True)]
        _check("choices", values, MAX_CHOICES)
        if len(values) > len(ascii_uppercase):
            return lines, Choice(tuple(map(Option, values, values, lines)))
        return _lettered(lines), Choice(tuple(map(Option, values, ascii_uppercase, lines)))
    if form.levels:
        labels = [encodable(level.label) for level in form.levels]
        lines = [_line(label, level.description) for label, level in zip(labels, form.levels, strict=True)]
        _check("levels", labels, MAX_LEVELS)
        return _lettered(lines), Score(tuple(labels), tuple(ascii_uppercase[: len(labels)]))
    return ["yes", "no"], Predicate()


def _check_parts(form: QuestionForm) -> None:
    """Raise InputError if a question's type is unknown, or if the type does not fit the question's lists.

    A choice must have `choices`, a score must have `levels`, and no question may have a list that its type does not
    need.
    """
    if form.type not in _NEEDED:
        raise _wrong("type", f"is {form.type[:80]!r}", "predicate, choice with choices, or score with levels")
    for name, items in (("choices", form.choices), ("levels", form.levels)):
        if name == _NEEDED[form.type] and not items:
            wanted = f"{name}, such as [{_example(name, 'a')}, {_example(name, 'b')}]"
            raise InputError(f"A question of the type {form.type} needs {name}", step=f"give {wanted}", field=name)
        if name != _NEEDED[form.type] and items:
            message = f"A question of the type {form.type} has no {name}"
            raise InputError(message, step=f"leave {name} out, or change the type", field=name)


def _check_items(definition: Mapping[str, Any]) -> None:
    """Raise InputError for the first choice or level that is not an object of the right form."""
    for name, (form, _) in _ITEMS.items():
        items = definition.get(name)
        for index, item in enumerate(items if isinstance(items, list) else ()):
            try:
                decode(form, item, f"question.{name}[{index}]")
            except ValueError as error:
                example = _example(name, item if isinstance(item, str) else "…")
                raise InputError(f"{error}", step=f"write {example}", field=f"{name}[{index}]") from None


def _example(name: str, text: str) -> str:
    return json.dumps({_ITEMS[name][1]: encodable(text[:80])}, ensure_ascii=False)


def _lettered(lines: list[str]) -> list[str]:
    return [f"{letter}: {line}" for letter, line in zip(ascii_uppercase, lines, strict=False)]


def _line(value: str, description: str | None) -> str:
    return f"{value}: {encodable(description)}" if description else value


def _check(place: str, values: list[str], most: int) -> None:
    if not 2 <= len(values) <= most:
        raise _wrong(place, f"has {len(values)} items", f"2 to {most}")
    if len(set(values)) < len(values):
        raise _wrong(place, "has one twice", "each one once")
    if any(len(value) > LONGEST_VALUE or not value.strip() for value in values):
        raise _wrong(place, "has one that is blank or long", f"texts of 1 to {LONGEST_VALUE} characters")


def _wrong(place: str, reason: str, wanted: str) -> InputError:
    return InputError(f"The question's {place} {reason}", step=f"give {wanted}", field=place)
