"""Reads what a person wrote into a review table."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecellm_lite.errors import EcellmError, InputError, UsageError
from ecellm_lite.jobs.review import CORRECTION, KEY
from ecellm_lite.tables.cells import cell_text, is_empty
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.row import Table

_LINES = 5  # lines named in a sentence, at most


@dataclass(frozen=True, slots=True)
class Correction:
    """An answer that a person wrote into a review table, and its line in that table."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class ReviewEntries:
    """A review table's corrections by row key. Several lines may have the same key, because their rows are equal.

    `folder`: the folder of the job's journal.
    `empty`: for each row without a correction, the first of its lines in the table, by row key.
    """

    path: Path
    folder: Path
    corrections: Mapping[str, Correction]
    empty: Mapping[str, int]

    @property
    def table(self) -> str:
        """The table's path, which the journal stores with each correction.

        A path inside `folder` is relative to `folder`, so a folder with a job and its review table can be moved.
        """
        path = self.path.resolve()
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)

    def taken_back(self, tables: Mapping[str, str]) -> dict[str, int]:
        """Return the line number of each correction that the person took back, by row key.

        A correction is taken back if it was applied from this table, and its cell is empty now. A correction whose row
        is missing now, or that was applied from another table, stays.

        `tables`: the table that each correction was applied from (see Journal.tables).
        """
        return {key: line for key, line in self.empty.items() if tables.get(key) == self.table}

    def notes(self, used: Collection[str | None], tables: Mapping[str, str]) -> list[str]:
        """Return sentences about the corrections that were taken back, or that belong to no row of the job.

        A sentence also says which corrections stay although their cells are empty, because another table had them.

        `used`: the keys of all corrected rows. `tables`: as in `taken_back`.
        """
        unused = [entry.line for key, entry in self.corrections.items() if key not in used]
        back = self.taken_back(tables).values()
        elsewhere = {key: line for key, line in self.empty.items() if tables.get(key, self.table) != self.table}
        notes = []
        if unused:
            notes.append(f"{_counted(unused, 'matches', 'match')} no row of the job's table ({self._places(unused)})")
        if back:
            notes.append(f"{_counted(back, 'was', 'were')} taken back ({self._places(back)})")
        if elsewhere:
            table = tables[next(iter(elsewhere))]
            staying = _counted(elsewhere, "stays", "stay")
            notes.append(f"{staying} as {table} had it ({self._places(elsewhere.values())})")
        return notes

    def _places(self, lines: Iterable[int]) -> str:
        """Return where lines are, as in `lines 4, 7 of answers.review.csv`. Only the first five are named."""
        first, *others = map(str, sorted(lines))
        if not others:
            return f"line {first} of {self.path}"
        if len(others) >= _LINES:
            others[_LINES - 1 :] = ["…"]
        return f"lines {', '.join([first, *others])} of {self.path}"


def read_review(path: Path, folder: Path) -> ReviewEntries:
    """Return what a person wrote into a review table. `folder`: the folder of the job's journal.

    Raises InputError for a file that is not a review table, or that has two different corrections for one row.
    """
    corrections: dict[str, Correction] = {}
    empty: dict[str, int] = {}
    with open_table(path) as table:
        written, keys = (_column(table, name) for name in (CORRECTION, KEY))
        if written is None or keys is None:
            raise InputError(
                f"{path} has no columns {CORRECTION} and {KEY}",
                step="give a review table of this job, with all its columns",
                file=str(path),
            )
        for row in table.rows():
            if row.error:
                raise row.error
            key = row.cells.get(keys)
            name = key.strip() if isinstance(key, str) else ""
            if is_empty(row.cells.get(written)):
                if name and written in row.cells:
                    empty.setdefault(name, row.line)
                continue
            if not name:
                raise InputError(
                    f"Line {row.line} of {path} has a correction and no {KEY}",
                    step="keep the review table's keys; a row without a key could not be read and cannot be corrected",
                    line=row.line,
                )
            entry = Correction(_answer(row.cells[written]), row.line)
            first = corrections.setdefault(name, entry)
            if first.text != entry.text:
                raise InputError(
                    f"Lines {first.line} and {entry.line} of {path} correct the same row in two ways",
                    step="give both the same answer",
                    line=entry.line,
                )
    return ReviewEntries(
        path, folder, corrections, {key: line for key, line in empty.items() if key not in corrections}
    )


def check_applied(review: Path, folder: Path, applied: Mapping[str, str], tables: Mapping[str, str]) -> None:
    """Raise UsageError if a job that replaces this review table would lose what a person wrote into it.

    This can be a correction that is not applied yet. Or the person has emptied the cell of an applied correction, to
    take it back. The error is also raised if the file cannot be read as a review table.

    `folder`: the folder of the job's journal.
    `applied`: the corrections that were applied, as the person wrote them, by row key (see Journal.entries).
    `tables`: the review table that each correction was applied from, by row key (see Journal.tables).
    """
    if not review.exists() or not review.stat().st_size:  # JSON Lines without rows
        return
    try:
        entries = read_review(review, folder)
    except EcellmError as error:
        message = f"This job would replace {review}, which cannot be read as its review table ({error.message})"
        raise UsageError(message, step="move that file", settings=("output",)) from None
    pending = [entry.line for key, entry in entries.corrections.items() if applied.get(key) != entry.text]
    pending += entries.taken_back(tables).values()
    if pending:
        raise UsageError(
            f"The change in line {min(pending)} of {review} is not applied yet, and this job would replace it",
            step="move the file, or apply its corrections first",
            settings=("corrections",),
        )


def _counted(corrections: Sized, one: str, several: str) -> str:
    """Return a count and a verb, such as `1 correction was` (verb `one`) or `3 corrections were` (verb `several`)."""
    return f"1 correction {one}" if len(corrections) == 1 else f"{len(corrections):,} corrections {several}"


def _column(table: Table, name: str) -> str | None:
    """Return the full name of a review table's own column `name`, such as `correction`, or None if it is missing.

    If the job's table already had a column `correction`, the review table's own column is a later one, with a number
    in its name: `correction (2)`.
    """
    if table.columns is None:
        return name
    named = re.compile(rf"{name}( \(\d+\))?")
    return next((column for column in reversed(table.columns) if named.fullmatch(column)), None)


def _answer(cell: Any) -> str:
    if isinstance(cell, list) and all(isinstance(part, str) for part in cell):  # the list of a ranking, in JSON Lines
        cell = ",".join(cell)
    return cell_text(cell).strip()
