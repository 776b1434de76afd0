"""Corrections: answers that a person wrote into a review table. They replace the model's answers.

A person may also confirm an answer of the model, with the mark SAME. Corrections are stored in the job's journal, so a
later run of the same job uses them again. No model is called here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ecellm_lite.answers.answer import Answer, AnswerWarning
from ecellm_lite.answers.space import Space
from ecellm_lite.errors import InputError
from ecellm_lite.jobs.output import write_whole
from ecellm_lite.jobs.review import NOT_APPLIED, OUTDATED, shown_key
from ecellm_lite.jobs.review_entries import Correction, texts_of
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

    `stored`: the corrections in the journal, as labels (see Space.label). They are not stored as letters, because a
      letter could mean another label after the task has changed.
    `written`: what the person wrote, by the keys that the review table shows. A correction that was not applied is here
      and not in `stored`.
    `entries`: the corrections in a review table.
    `space`: the answer space that the job uses in place of the task's, or None.
    `matched`: the rows that have a correction and were passed to `apply`, by the keys that the review table shows.
    `applied`: the label of each row that `apply` corrected. The key is the hash of the row.
    `outdated`: the stored corrections that are no longer answers of the task, as the person wrote them.
    `refused`: why a correction in `entries` cannot be applied, by the key that the review table shows.
    `labelled`: each row that `apply` corrected, with its right answer.
    """

    task: Task
    stored: Mapping[bytes, str]
    written: Mapping[str, str] = field(default_factory=dict)
    entries: Mapping[str, Correction] = field(default_factory=dict)
    space: Space | None = None
    matched: set[str] = field(default_factory=set)
    applied: dict[bytes, str] = field(default_factory=dict)
    outdated: dict[bytes, str] = field(default_factory=dict)
    refused: dict[str, InputError] = field(default_factory=dict)
    labelled: list[Mapping[str, Any]] = field(default_factory=list)
    _listed: Counter[bytes] = field(default_factory=Counter)

    def apply(self, row: Mapping[str, Any] | None, key: bytes, answer: Answer | None) -> Answer | None:
        """Return the answer as a person corrected it, or unchanged if there is no correction that can be applied.

        `row`: None if the row could not be read.
        `answer`: None if the row has no answer yet. Then None is returned, and the field `applied` gets the correction.
        """
        name = shown_key(key) or ""
        entry = self.entries.get(name)
        if entry or name in self.written:
            self.matched.add(name)
        if row is None or (entry is None and key not in self.stored):
            if entry:
                self.refused[name] = InputError(
                    "The row could not be read", step="its row could not be read: mend the table"
                )
            return answer
        try:
            space = self.space or self.task.question(row).space
            text = self._text(space, entry, key, answer) if entry else _answer_text(space, self.stored[key])
        except InputError as error:
            if entry:
                self.refused[name] = error
            else:
                self.outdated[key] = self.written.get(name, self.stored[key])
            return answer
        label = space.label(text)
        self.applied[key] = label
        self.labelled.append(labelled_row(self.task, row, label))
        return answer and corrected(answer, space, text)

    def unapplied(self, key: bytes) -> tuple[str, str] | None:
        """Return why a row's correction was not applied, and what the person wrote.

        Return None if the row has no such correction.

        Call this once for each row that the review table may list, after `apply`. If the person wrote different texts
        for equal rows, each of these rows gets one of the texts.
        """
        entry = self.outdated.get(key)
        reason = OUTDATED if entry is not None else NOT_APPLIED
        if entry is None and key not in self.stored:
            entry = self.written.get(shown_key(key) or "")
        if entry is None:
            return None
        texts = texts_of(entry)
        place = min(self._listed[key], len(texts) - 1)
        self._listed[key] += 1
        return reason, texts[place]

    def _text(self, space: Space, entry: Correction, key: bytes, answer: Answer | None) -> str:
        """Return the answer string for a correction.

        Raises InputError if equal rows have different corrections, if the person's text is not an allowed answer, or
        if the person confirmed the model's answer to a row that had none.
        """
        if entry.is_ambiguous:
            raise InputError("The row has different corrections", step="these rows are equal, so give them one answer")
        is_unchanged = self.written.get(shown_key(key) or "", "").casefold() == entry.text.casefold()
        if is_unchanged and key in self.stored:  # it keeps its meaning with another model or other letters
            return _answer_text(space, self.stored[key])
        if not _is_same(space, entry.text):
            return space.normalized(entry.text)
        if is_unchanged or answer is None or answer.text is None:  # it could not be applied to the answer of its day
            raise InputError("The model gave no answer that could be right", step="write the right answer")
        return answer.text


def unapplied_notes(
    corrections: Sequence[Corrections], stored: Mapping[bytes, str], written: Mapping[str, str], *, reviewed: bool
) -> list[str]:
    """Return sentences about the corrections in the journal that a job did not apply.

    `stored`, `written`: as in Corrections. `reviewed`: whether the job wrote a review table.
    """
    where = "the review table lists them again" if reviewed else "the journal keeps them"
    outdated = {key for each in corrections for key in each.outdated}
    waiting = written.keys() - {shown_key(key) for key in stored}
    matched = {name for each in corrections for name in each.matched}
    absent = len(stored.keys() - outdated - {key for each in corrections for key in each.applied})
    absent += len(waiting - matched)
    counts = {
        f"Corrections that are no longer answers of the task: {len(outdated):,} ({where})": len(outdated),
        f"Corrections that were not applied: {len(waiting & matched):,} ({where})": len(waiting & matched),
        f"Corrections that match no row of the table: {absent:,} (the journal keeps them)": absent,
    }
    return [note for note, count in counts.items() if count]


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


def write_labelled(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write labelled rows as JSON Lines, creating the folder if needed. Raises InputError if they cannot be written."""
    write_whole(path, "".join(json.dumps(row, default=str) + "\n" for row in rows), "labelled")
