"""Corrections: answers that a person wrote into a review table. They replace the model's answers.

Corrections are stored in the job's journal, so a later run of the same job uses them again. No model is called here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ecellm_lite.answers.answer import AdapterName, Answer, AnswerWarning, ModelName
from ecellm_lite.answers.space import Space
from ecellm_lite.errors import EcellmError, InputError, UsageError
from ecellm_lite.jobs.output import write_whole
from ecellm_lite.jobs.review import CORRECTION, KEY, shown_key
from ecellm_lite.tables.cells import cell_text, is_empty
from ecellm_lite.tables.labelled_table import labelled_row
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.row import TableRow
from ecellm_lite.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Correction:
    """An answer that a person wrote into a review table, and its line in that table."""

    text: str
    line: int


@dataclass(slots=True)
class Corrections:
    """A person's corrections of one task's answers. A row is identified by the hash of its fields.

    `stored`: the corrections in the journal, as answer texts.
    `entries`: the corrections in a review table.
    `space`: the answer space that the job uses in place of the task's, or None.
    `name`: the review table's name in error messages.
    `applied`: the answer text of each row that `apply` corrected. The key is the hash of the row.
    `labelled`: each row that `apply` corrected, with its right answer.
    """

    task: Task
    stored: Mapping[bytes, str]
    entries: Mapping[str, Correction] = field(default_factory=dict)
    space: Space | None = None
    name: str = "the review table"
    applied: dict[bytes, str] = field(default_factory=dict)
    labelled: list[Mapping[str, Any]] = field(default_factory=list)

    def apply(self, row: Mapping[str, Any], key: bytes, answer: Answer) -> Answer:
        """Return the answer as a person corrected it, or unchanged if there is no correction for it.

        Raises InputError for an invalid correction.
        """
        entry = self.entries.get(shown_key(key) or "")
        if entry is None and key not in self.stored:
            return answer
        space = self.space or self.task.question(row).space
        text = self._text(space, entry) if entry else self.stored[key]
        self.applied[key] = text
        self.labelled.append(labelled_row(self.task, row, space.label(text)))
        return corrected(answer, space, text)

    def _text(self, space: Space, entry: Correction) -> str:
        try:
            return space.normalized(entry.text)
        except InputError as error:
            message = f"The correction in line {entry.line} of {self.name} is not an answer: {error.message}"
            raise InputError(message, step=error.step, line=entry.line) from None


def read_corrections(path: Path) -> dict[str, Correction]:
    """Return the corrections in a review table, by row key. Lines without a correction are left out.

    Raises InputError for a file that is not a review table, or that has two different corrections for one row.
    """
    corrections: dict[str, Correction] = {}
    with open_table(path) as table:
        if table.columns is not None and not {CORRECTION, KEY} <= set(table.columns):
            raise InputError(
                f"{path} has no columns {CORRECTION} and {KEY}",
                step="give a review table of this job, with all its columns",
                file=str(path),
            )
        for row in table.rows():
            if row.error:
                raise row.error
            if is_empty(row.cells.get(CORRECTION)):
                continue
            key = row.cells.get(KEY)
            if not isinstance(key, str) or not key.strip():
                raise InputError(
                    f"Line {row.line} of {path} has a correction and no {KEY}",
                    step="keep the review table's keys; a row without a key could not be read and cannot be corrected",
                    line=row.line,
                )
            entry = _correction(row)
            first = corrections.setdefault(key.strip(), entry)
            if first.text != entry.text:
                raise InputError(
                    f"Lines {first.line} and {entry.line} of {path} correct the same row in two ways",
                    step="give both the same answer",
                    line=entry.line,
                )
    return corrections


def check_applied(review: Path, applied: Mapping[str, str]) -> None:
    """Raise UsageError if a job that replaces this review table would lose a person's corrections.

    The error is also raised if the file cannot be read as a review table.

    `applied`: the corrections that were applied, as the person wrote them, by row key (see Journal.entries).
    """
    if not review.exists() or not review.stat().st_size:  # JSON Lines without rows
        return
    try:
        entries = read_corrections(review)
    except EcellmError as error:
        message = f"This job would replace {review}, which cannot be read as its review table ({error.message})"
        raise UsageError(message, step="move that file", settings=("output",)) from None
    for key, entry in entries.items():
        if applied.get(key) != entry.text:
            raise UsageError(
                f"The correction in line {entry.line} of {review} is not applied yet, and this job would replace it",
                step="move the file, or apply its corrections first",
                settings=("corrections",),
            )


def unused_entries(entries: Mapping[str, Correction], used: Iterable[bytes]) -> int:
    """Return how many of a person's corrections belong to no row of the job. `used` has the keys of all rows."""
    keys = {shown_key(key) for key in used}
    return sum(key not in keys for key in entries)


def corrected(answer: Answer, space: Space, text: str) -> Answer:
    """Return a copy of the answer with a person's text instead of the model's.

    The copy's warnings say that it was corrected.
    """
    instead = "no answer" if answer.text is None else repr(answer.text)
    warning = AnswerWarning("corrected", f"Corrected by a person, in place of {instead}.")
    return replace(
        answer,
        type=space.type,
        value=space.value_of(text),
        text=text,
        probability=None,
        probabilities=None,
        confidence=None,
        abstained=False,
        warnings=[*(answer.warnings or ()), warning],
        error=None,
    )


def failed(task: Task, error: InputError, facts: Mapping[str, str]) -> Answer:
    """Return the answer to a row that could not be read, with `error`. `facts` name the model (see jobs/facts.py)."""
    name, _, sha256 = facts.get("model", "").rpartition(" ")
    adapter = AdapterName(*facts["adapter"].rsplit(" ", 1)) if "adapter" in facts else None
    return Answer.failed(task.name, error, model=ModelName(name, sha256, adapter), envelope=facts.get("envelope", ""))


def write_labelled(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write labelled rows as JSON Lines, creating the folder if needed. Raises InputError if they cannot be written."""
    write_whole(path, "".join(json.dumps(row, default=str) + "\n" for row in rows), "labelled")


def missing_answer(number: int) -> UsageError:
    """Return the error for a row that has no answer in the journal."""
    return UsageError(
        f"Row {number} has no answer yet, and corrections are applied without a model",
        step="finish the job first, with the same table and mapping",
        settings=("rows", "map"),
    )


def _correction(row: TableRow) -> Correction:
    cell = row.cells[CORRECTION]
    if isinstance(cell, list) and all(isinstance(part, str) for part in cell):  # the list of a ranking, in JSON Lines
        cell = ",".join(cell)
    return Correction(cell_text(cell).strip(), row.line)
