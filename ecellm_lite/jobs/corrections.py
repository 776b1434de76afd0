"""Corrections: answers that a person wrote into a review table. They replace the model's answers.

A person may also confirm an answer of the model, with the mark SAME. Corrections are stored in the job's journal, so a
later run of the same job uses them again. No model is called here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ecellm_lite.answers.answer import AdapterName, Answer, AnswerWarning, ModelName
from ecellm_lite.answers.space import Space
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.jobs.output import write_whole
from ecellm_lite.jobs.review import shown_key
from ecellm_lite.jobs.review_entries import Correction
from ecellm_lite.tables.attribute_columns import extracted
from ecellm_lite.tables.labelled_table import labelled_row
from ecellm_lite.tables.results import answer_cell
from ecellm_lite.tasks.task import Task

SAME = "ok"  # a correction that says: the model's answer is right

# Codes of warnings about the model's own answer.
_OF_THE_MODEL = frozenset(("value_not_read", "low_coverage", "not_escalated"))


@dataclass(slots=True)
class Corrections:
    """A person's corrections of one task's answers. A row is identified by the hash of its fields.

    `stored`: the corrections in the journal, as labels (see Space.label). They are not stored as options' letters,
      because after a change of the task, a letter could mean another label.
    `written`: the same corrections as the person wrote them, by the keys that the review table shows.
    `entries`: the corrections in a review table.
    `space`: the answer space that the job uses in place of the task's, or None.
    `name`: the review table's name in error messages.
    `applied`: the label of each row that `apply` corrected. The key is the hash of the row.
    `outdated`: the stored corrections that are no longer answers of the task, as the person wrote them.
    `labelled`: each row that `apply` corrected, with its right answer.
    """

    task: Task
    stored: Mapping[bytes, str]
    written: Mapping[str, str] = field(default_factory=dict)
    entries: Mapping[str, Correction] = field(default_factory=dict)
    space: Space | None = None
    name: str = "the review table"
    applied: dict[bytes, str] = field(default_factory=dict)
    outdated: dict[bytes, str] = field(default_factory=dict)
    labelled: list[Mapping[str, Any]] = field(default_factory=list)

    def apply(self, row: Mapping[str, Any], key: bytes, answer: Answer) -> Answer:
        """Return the answer as a person corrected it, or unchanged if there is no correction for it.

        A stored correction that is no longer an answer of the task is not applied.

        Raises InputError for an invalid correction.
        """
        entry = self.entries.get(shown_key(key) or "")
        if entry is None and key not in self.stored:
            return answer
        space = self.space or self.task.question(row).space
        if entry:
            text = self._text(space, entry, key, answer)
        else:
            try:
                text = _answer_text(space, self.stored[key])
            except InputError:
                self.outdated[key] = self.written.get(shown_key(key) or "", self.stored[key])
                return answer
        label = space.label(text)
        self.applied[key] = label
        self.labelled.append(labelled_row(self.task, row, label))
        return corrected(answer, space, text)

    def _text(self, space: Space, entry: Correction, key: bytes, answer: Answer) -> str:
        """Return the answer string for a correction."""
        try:
            if not _is_same(space, entry.text):
                return space.normalized(entry.text)
            if key in self.stored and self.written.get(shown_key(key) or "", "").casefold() == SAME:
                return _answer_text(space, self.stored[key])  # confirmed before: another model may have answered since
            if answer.text is None:
                raise InputError("the model gave no answer that could be right", step="write the right answer")
            return answer.text
        except InputError as error:
            message = f"The correction in line {entry.line} of {self.name} is not an answer: {error.message}"
            raise InputError(message, step=error.step, line=entry.line) from None


def unapplied(corrections: Sequence[Corrections], stored: Mapping[bytes, str], *, reviewed: bool) -> list[str]:
    """Return sentences about the stored corrections that a job did not apply.

    `reviewed`: whether the job wrote a review table.
    """
    outdated = {key for each in corrections for key in each.outdated}
    unmatched = stored.keys() - outdated - {key for each in corrections for key in each.applied}
    notes = []
    if outdated:
        where = "the review table lists them again" if reviewed else "the journal keeps them"
        notes.append(f"Corrections that are no longer answers of the task: {len(outdated):,} ({where})")
    if unmatched:
        notes.append(f"Corrections that match no row of the table: {len(unmatched):,} (the journal keeps them)")
    return notes


def corrected(answer: Answer, space: Space, text: str) -> Answer:
    """Return a copy of the answer with a person's text instead of the model's.

    Warnings about the model's answer are left out. A new one says what a person corrected, or that a person confirmed
    the answer.
    """
    others = [warning for warning in answer.warnings or () if warning.code not in _OF_THE_MODEL]
    after = replace(
        answer,
        type=space.type,
        value=space.value_of(text),
        text=text,
        probability=None,
        probabilities=None,
        confidence=None,
        abstained=False,
        error=None,
    )
    return replace(after, warnings=[*others, *space.warnings_of(text), _note(answer, after)])


def _note(before: Answer, after: Answer) -> AnswerWarning:
    """Return the warning that says what a person corrected, in the words of the output's columns."""
    replaced = "no answer"
    if before.text is not None and after.type == "extraction":
        values, corrected_values = extracted(before.value), extracted(after.value)
        changed = [name for name, value in values.items() if corrected_values.get(name) != value]
        replaced = "; ".join(f"{name}: {_shown(values[name])}" for name in changed)
    elif before.text is not None:
        replaced = "" if before.text == after.text else repr(answer_cell(before))
    if not replaced:
        return AnswerWarning("confirmed", "Confirmed by a person.")
    return AnswerWarning("corrected", f"Corrected by a person, in place of {replaced}.")


def _shown(value: str | list[str | None] | None) -> str:
    """Return an attribute's value, or its values with commas between them, as text for people."""
    values = value if isinstance(value, list) else [value]
    return ", ".join(filter(None, values)) or "none"


def _answer_text(space: Space, label: str) -> str:
    """Return the answer string for a label. Raises InputError if the label is not an answer of this space."""
    text = space.written(label)
    space.value_of(text)
    return text


def _is_same(space: Space, text: str) -> bool:
    """Return whether a correction is the mark SAME, which confirms an answer, and not an answer of the task."""
    if text.casefold() != SAME:
        return False
    if space.type == "text":  # every text could be an answer, but hardly this one
        return True
    try:
        space.normalized(text)
    except InputError:
        return True
    return False


def failed(task: Task, error: InputError, facts: Mapping[str, str]) -> Answer:
    """Return an answer that holds `error`, for an unreadable row. `facts` name the model (see jobs/facts.py)."""
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
