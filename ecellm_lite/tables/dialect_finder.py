"""Detects the dialect of delimited text: its delimiter and its quotes. It tries usual dialects on the first lines.

In the right dialect, most records have the same number of cells. If the first records have another number of cells,
they count less, because they may be titles above the header.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import log2

from ecellm_lite.errors import UsageError
from ecellm_lite.tables.dialects import DELIMITERS, SINGLE_COLUMN, Dialect, Quoting
from ecellm_lite.tables.lines import Line
from ecellm_lite.tables.records import Record, Records

_RECORDS = 300
_LEAST = 0.3  # below this score, the text is read as a single column

# A factor for each delimiter: commas are the weakest evidence, because texts and numbers contain them too.
_TRUST = {"\t": 1.0, ";": 0.98, "|": 0.97, ",": 0.96}


@dataclass(frozen=True, slots=True)
class Reading:
    """The first records of a file, read in one dialect.

    `width`: the most frequent number of cells in a record.
    `share`: the fraction of records that have this width. Records above the first record of this width count less.
    """

    dialect: Dialect
    records: Sequence[Record]
    width: int
    share: float

    @property
    def score(self) -> float:
        """How well this dialect fits, from 0 to 2.

        If two dialects fit equally well otherwise, the one with more cells per record scores higher. Cells after the
        fourth do not count.
        """
        trust = _TRUST.get(self.dialect.delimiter or "", 1.0)
        return trust * self.share**2 * min(2.0, log2(self.width))

    @property
    def first(self) -> int:
        """The index of the first well-formed record with `width` cells, or the number of records if there is none."""
        fits = (index for index, record in enumerate(self.records) if _fits(record, self.width))
        return next(fits, len(self.records))

    @property
    def even(self) -> bool:
        """Whether `width` is more than 1, and all records from index `first` on are well formed with `width` cells."""
        return self.width > 1 and all(_fits(record, self.width) for record in self.records[self.first :])

    @property
    def faults(self) -> int:
        """The number of malformed records in this dialect."""
        return sum(1 for record in self.records if record.fault)


def find_dialect(
    lines: Sequence[Line], *, whole: bool, delimiter: str | None = None, quote: str | None = None
) -> Reading:
    """Read a file's first lines in each usual dialect, and return the reading with the best score.

    If no dialect fits well and `delimiter` is None, the lines are read as a single column.

    `whole`: whether the lines are the whole file. `delimiter` and `quote` override the detection.

    Raises UsageError for an invalid delimiter or quote.
    """
    single = _character(delimiter, "delimiter", {"tab": "\t", "\\t": "\t"})
    mark = _character(quote, "quote", {"none": ""})
    delimiters = [single] if single else list(DELIMITERS)
    text = "".join(line.text for line in lines)
    readings = [_reading(lines, text, each, mark, whole) for each in delimiters]
    best = max(readings, key=lambda reading: reading.score)
    # Cells may have the same number of decimal commas in all rows. The header above them has none.
    above = [reading for reading in readings if reading.even and reading.first < best.first]
    best = max(above or [best], key=lambda reading: reading.score)
    if single is None and best.score < _LEAST:
        return _reading(lines, text, None, mark, whole)
    return best


def _reading(lines: Sequence[Line], text: str, delimiter: str | None, quote: str | None, whole: bool) -> Reading:
    """Return the better of two readings with `delimiter`: one with quoted cells and one without.

    `text`: the text of all lines. `delimiter`: if it is None, the lines are read as a single column.
    If `quote` is given, there is only one reading: with this quote character or, if it is empty, without quoted cells.
    `whole`: whether `lines` are the whole file. If not, the last record may be cut off, so it is ignored.
    """
    if quote == "":
        return _read(lines, Dialect(delimiter, Quoting.NONE), whole)
    dialect = Dialect(delimiter, Quoting.QUOTED, quote or '"')
    quoted = _read(lines, dialect, whole)
    if quote:
        return quoted
    if dialect.quote not in text:
        return replace(quoted, dialect=replace(dialect, quoting=Quoting.UNSURE))
    literal = _read(lines, replace(dialect, quoting=Quoting.NONE), whole)
    proper = _quoted_cells(text, delimiter or SINGLE_COLUMN, dialect.quote)
    if (literal.share >= quoted.share and quoted.faults > proper) or (literal.share > quoted.share and proper == 0):
        return literal
    return quoted if proper else replace(quoted, dialect=replace(dialect, quoting=Quoting.UNSURE))


def _read(lines: Sequence[Line], dialect: Dialect, whole: bool) -> Reading:
    records = list(islice(Records(iter(lines), dialect), _RECORDS + 1))
    if len(records) > _RECORDS or (len(records) > 1 and not whole):
        records = records[:-1]  # the last record may be cut
    good = [len(record.cells) for record in records if record.fault is None]
    widths = Counter(width for width in good if width > 1)
    if dialect.delimiter is None or not widths:
        return Reading(dialect, records, 1, 1.0 if dialect.delimiter is None else 0.0)
    least = min(2, max(widths.values()))  # a single record is no evidence of a width
    share, width = max((_share(records, width), width) for width, count in widths.items() if count >= least)
    return Reading(dialect, records, width, share)


def _share(records: Sequence[Record], width: int) -> float:
    """Return the fraction of records that are well formed and have this width.

    Records before the first such record may be a title or notes. Each of them counts as only a quarter of a record.
    """
    fits = [_fits(record, width) for record in records]
    first = fits.index(True)
    return sum(fits) / (len(fits) - first + 0.25 * first)


def _fits(record: Record, width: int) -> bool:
    return len(record.cells) == width and record.fault is None


def _quoted_cells(text: str, delimiter: str, quote: str) -> int:
    """Return the number of cells that begin and end with a quote and contain no line end."""
    mark, edge = re.escape(quote), re.escape(delimiter)
    inside = f"[^{mark}\n]*"
    cell = f"(?:^|{edge}){mark}{inside}(?:{mark}{mark}{inside})*{mark}(?={edge}|[\r\n]|\\Z)"
    return sum(1 for _ in re.finditer(cell, text, re.MULTILINE))


def _character(value: str | None, setting: str, names: dict[str, str]) -> str | None:
    if value is None:
        return None
    character = names.get(value.lower(), value)
    if len(character) > 1 or (character == "" and setting == "delimiter") or character in {"\n", "\r", "\0"}:
        words = next(name for name in names if name.isalpha())
        raise UsageError(
            f"The {setting} {value!r} is neither a single character nor {words}",
            step="give one character",
            settings=(setting,),
        )
    return character
