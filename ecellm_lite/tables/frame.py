"""Reads a data frame of pandas, polars or pyarrow as a table, and adds columns to a copy of it.

The library narwhals gives all three kinds of frames the same interface. It is imported when the first frame is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ecellm_lite.errors import InputError
from ecellm_lite.tables.extras import library
from ecellm_lite.tables.kinds import Kind
from ecellm_lite.tables.results import OwnColumn
from ecellm_lite.tables.row import TableRow, fault_of

_ABSENT = frozenset(("NAType", "NaTType"))  # how pandas writes a missing cell, beside NaN


class Frame:
    """A data frame in memory, as a table. The data frame itself is never changed."""

    def __init__(self, frame: Any) -> None:
        """Wrap a data frame of pandas, polars or pyarrow. Its columns must have different names, which must be texts.

        Raises InputError if `frame` is not such a data frame, and UsageError if narwhals is not installed.
        """
        self._narwhals = narwhals = library("narwhals", "A data frame")
        try:
            self._frame = narwhals.from_native(frame, eager_only=True)
        except TypeError:
            raise InputError(
                f"A {type(frame).__name__} is not a data frame in memory",
                step="give a frame of pandas or polars, or a table of pyarrow",
            ) from None
        except narwhals.exceptions.DuplicateError:
            raise InputError(
                "The frame has two columns with the same name", step="give its columns different names"
            ) from None
        self.columns = tuple(self._frame.columns)
        if wrong := [name for name in self.columns if not isinstance(name, str)]:
            raise InputError(f"The frame has the column {wrong[0]!r}", step="give all columns names that are texts")

    def rows(self) -> Iterator[TableRow]:
        """Yield the frame's rows, numbered from 1."""
        for number, cells in enumerate(self._frame.iter_rows(), 1):
            row = {name: _plain(cell) for name, cell in zip(self.columns, cells, strict=True)}
            yield TableRow(number, number, row, _error(number, row))

    def with_columns(self, columns: Sequence[OwnColumn], rows: Sequence[Sequence[Any]]) -> Any:
        """Return a copy of the frame with new columns.

        Each item of `rows` has the values of one row: one value, or None, for each new column.
        """
        kinds = {
            Kind.TEXT: self._narwhals.String,
            Kind.NUMBER: self._narwhals.Float64,
            Kind.ESTIMATE: self._narwhals.Float64,
            Kind.TRUTH: self._narwhals.Boolean,
        }
        backend = self._frame.implementation
        added = [
            self._narwhals.new_series(column.name, [row[place] for row in rows], kinds[column.kind], backend=backend)
            for place, column in enumerate(columns)
        ]
        return self._narwhals.to_native(self._frame.with_columns(*added))


def _plain(cell: Any) -> Any:
    """Return a cell as a plain Python value: NumPy values are converted, and a missing value becomes None."""
    if type(cell).__name__ in _ABSENT:
        return None
    return cell.tolist() if hasattr(cell, "tolist") else cell


def _error(number: int, row: dict[str, Any]) -> InputError | None:
    for column, cell in row.items():
        if isinstance(cell, str) and (reason := fault_of(cell)):
            return InputError(f"Row {number}, column {column!r}, {reason}", step="correct it there", field=column)
    return None
