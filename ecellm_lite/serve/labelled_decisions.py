"""Labelled questions: JSON Lines of `/v1/decisions` requests, each with the correct answers to its questions.

    {"input": "Never came.", "questions": [{"type": "predicate", "instructions": "Is it late?"}], "answers": [true]}

`answers` has one answer for each question, in order. The answer is true or false for a predicate, and a value for a
choice. For a score, it is a level's label, or the level's number counted from 0. It is null if the correct answer is
unknown.

All other keys are as in a request. So you can make a labelled line from a logged request: only add `answers`. The same
question may be in several lines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ecellm_lite.answers.options import OneOf
from ecellm_lite.errors import EcellmError, InputError
from ecellm_lite.evaluate.calibrating import LabelledTask
from ecellm_lite.evaluate.labelled import Labelled
from ecellm_lite.evaluate.results import DataFile, Unreadable
from ecellm_lite.models.files import sha256_of
from ecellm_lite.serve.decisions import AnyQuestion, Choice, Decisions, Predicate, definition_of
from ecellm_lite.serve.form import place_of
from ecellm_lite.serve.inputs import content_text, input_text
from ecellm_lite.tables.json_lines import numbered_rows
from ecellm_lite.tasks.questions import question_task
from ecellm_lite.tasks.task import Task


class LabelledDecisions(Decisions):
    """A request with the correct answers to its questions. It does not have to name a model."""

    model: str = ""
    answers: list[bool | str | int | None]


def read_labelled_questions(path: Path) -> tuple[list[LabelledTask], list[Unreadable]]:
    """Return two lists: the questions of a file, each as a task with its labelled rows, and the lines that are invalid.

    Raises InputError if the file cannot be read.
    """
    tasks: dict[str, Task] = {}
    rows: dict[str, list[Labelled]] = {}
    unreadable = []
    try:
        with path.open("rb") as file:
            for number, line in numbered_rows(file):
                try:
                    for row in _labelled(number, line):
                        tasks.setdefault(row.task.name, row.task)
                        rows.setdefault(row.task.name, []).append(row)
                except EcellmError as error:
                    unreadable.append(Unreadable(number, str(error)))
        data = DataFile(path.name, sha256_of(path))
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror})"
        raise InputError(message, step="give a file of labelled questions") from None
    return [LabelledTask(task, rows[name], data) for name, task in tasks.items()], unreadable


def _labelled(number: int, line: Any) -> list[Labelled]:
    """Return a line's questions that have a correct answer. Raises EcellmError for an invalid line."""
    if isinstance(line, InputError):
        raise line
    try:
        body = LabelledDecisions.model_validate(line)
    except ValidationError as error:
        fault = error.errors()[0]
        field = place_of(("body", *fault["loc"]))
        raise InputError(f"{field}: {fault['msg']}", field=field) from None
    if len(body.answers) != len(body.questions):
        message = f"There are {len(body.questions)} questions and {len(body.answers)} answers"
        raise InputError(message, step="give one for each, or null", field="answers")
    row = {"state": input_text(body.input)}
    labelled = []
    for place, (question, answer) in enumerate(zip(body.questions, body.answers, strict=True)):
        if answer is not None:
            instructions = content_text(question.instructions, f"questions.{place}.instructions")
            task = question_task(definition_of(question, instructions), f"questions.{place}")
            space = task.question(row).space
            assert isinstance(space, OneOf)
            labelled.append(Labelled(task, number, row, space.offered[_place(question, answer, place)].text))
    return labelled


def _place(question: AnyQuestion, answer: bool | str | int, place: int) -> int:
    """Return the index of the correct answer among a question's options.

    Raises InputError if no option equals the answer. `place` is the question's index, which the error names.
    """
    values: list[Any]
    if isinstance(question, Predicate):
        values = [True, False]
    elif isinstance(question, Choice):
        values = [choice.value for choice in question.choices]
    elif isinstance(answer, int):
        values = list(range(len(question.levels)))
    else:
        values = [level.label for level in question.levels]
    # True equals 1, and is another answer.
    places = [index for index, value in enumerate(values) if value == answer and type(value) is type(answer)]
    if not places:
        message = f"The answer to question {place} is none of its options"
        step = f"give one of {', '.join(map(str, values[:10]))}"
        raise InputError(message, step=step, field=f"answers.{place}")
    return places[0]
