"""Reads what a person wrote into a review table."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecellm_lite.errors import EcellmError, InputError, UsageError
from ecellm_lite.jobs.review import CORRECTION, KEY
from ecellm_lite.tables.cells import cell_text, is_empty
from ecellm_lite.tables.csv_writer import unguarded
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.row import Table
from ecellm_lite.tasks.fields import encodable

_LINES = 5  # lines named in a sentence, at most
_BETWEEN = "\0"  # no correction has this character


@dataclass(frozen=True, slots=True)
class Correction:
    """An answer that a person wrote into a review table, and its line in that table.

    `others`: the corrections in later lines with the same row key, which equal rows have. Their texts may differ.
    """

    text: str
    line: int
    others: tuple[Correction, ...] = ()

    @property
    def lines(self) -> tuple[Correction, ...]:
        """The corrections in all lines with the same row key: this correction and `others`."""
        return (self, *self.others)

    @property
    def is_ambiguous(self) -> bool:
        """Whether lines with the same key have different texts."""
        return any(other.text != self.text for other in self.others)

    @property
    def entry(self) -> str:
        """What the journal stores: the correction's text.

        If the review table's lines with this key have different texts, the journal stores them all (see `texts_of`).
        """
        return _BETWEEN.join(line.text for line in self.lines) if self.is_ambiguous else self.text


@dataclass(frozen=True, slots=True)
class ReviewEntries:
    """A review table's corrections by row key. Several lines may have the same key, because their rows are equal.

    `folder`: the folder of the job's journal.
    `empty`: for each row without a correction in any of its lines, the number of its first line, by row key.
    `without_key`: the corrections in lines that have no key.
    """

    path: Path
    folder: Path
    corrections: Mapping[str, Correction]
    empty: Mapping[str, int]
    without_key: Sequence[Correction] = ()

    @property
    def table(self) -> str:
        """The table's path, which the journal stores with each correction.

        A path inside `folder` is relative to `folder`, so a folder with a job and its review table can be moved.
        """
        path = self.path.resolve()
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)

    def taken_back(self, tables: Mapping[str, str]) -> dict[str, int]:
        """Return the line number of each correction that the person took back, by row key.

        A correction is taken back if it was read from this table, and its cell is empty now. A correction whose row
        is missing now, or that was read from another table, stays.

        `tables`: the table that each correction was read from (see Journal.tables).
        """
        return {key: line for key, line in self.empty.items() if tables.get(key) == self.table}

    def notes(self, matched: Collection[str], tables: Mapping[str, str]) -> list[str]:
        """Return sentences about the corrections that were taken back, that stay, or that belong to no row of the job.

        `matched`: the keys of all corrections whose rows the job's table has. `tables`: as in `taken_back`.
        """
        unmatched = [entry.line for key, entry in self.corrections.items() if key not in matched]
        back = self.taken_back(tables).values()
        elsewhere = {key: line for key, line in self.empty.items() if tables.get(key, self.table) != self.table}
        notes = []
        if unmatched:
            unmatching = _counted(unmatched, "matches", "match")
            notes.append(
                f"{unmatching} no row of the job's table ({self._places(unmatched)}; the journal keeps what it says)"
            )
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

    Raises InputError for a file that is not a review table.
    """
    corrections: dict[str, Correction] = {}
    empty: dict[str, int] = {}
    without_key: list[Correction] = []
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
            correction = Correction(_answer(row.cells[written]), row.line)
            if not name:
                without_key.append(correction)
            elif first := corrections.get(name):
                corrections[name] = replace(first, others=(*first.others, correction))
            else:
                corrections[name] = correction
    empty = {key: line for key, line in empty.items() if key not in corrections}
    return ReviewEntries(path, folder, corrections, empty, without_key)


def texts_of(entry: str) -> Sequence[str]:
    """Return the texts in an entry of the journal.

    There are several if lines of the review table with the same key have different texts (see Correction.entry).
    """
    return entry.split(_BETWEEN)


def check_applied(review: Path, folder: Path, stored: Mapping[str, str], tables: Mapping[str, str]) -> None:
    """Raise UsageError if a job that replaces this review table would lose what a person wrote into it.

    The job would lose a correction that the journal does not have yet, or the emptying of a cell, which takes back a
    correction that the journal has. The error is also raised if the file cannot be read as a review table.

    `folder`: the folder of the job's journal.
    `stored`: the corrections in the journal, as the person wrote them, by row key (see Journal.entries).
    `tables`: the review table that each correction was read from, by row key (see Journal.tables).
    """
    if not review.exists() or not review.stat().st_size:  # JSON Lines without rows
        return
    try:
        entries = read_review(review, folder)
    except EcellmError as error:
        message = f"This job would replace {review}, which cannot be read as its review table ({error.message})"
        raise UsageError(message, step="move that file", settings=("output",)) from None
    if entries.without_key:
        line = entries.without_key[0].line
        raise UsageError(
            f"The correction in line {line} of {review} has no {KEY}, and this job would replace it",
            step="write it into the line that has its row's key, or move the file",
            settings=("output",),
        )
    pending = [
        entry.line
        for key, entry in entries.corrections.items()
        if {line.text for line in entry.lines} != set(texts_of(stored.get(key, "")))
    ]
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
    return unguarded(encodable(cell_text(cell)).replace(_BETWEEN, " ").strip())
