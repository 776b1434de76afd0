"""Writes Parquet in groups of rows.

The columns get their types before the first row is written, not from their cells. So the first cells may be empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

from ecellm_lite.tables.cells import RawText, exact_text
from ecellm_lite.tables.extras import library
from ecellm_lite.tables.kinds import Kind
from ecellm_lite.tables.results import OwnColumn
from ecellm_lite.tasks.fields import encodable

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 10_000  # of a full row group
_CHARACTERS = 16 << 20  # a row group of this many characters is full too


class ParquetWriter:
    """Writes rows to a Parquet file.

    The input's columns keep their types. If the input has no types, its columns become texts.
    """

    def __init__(
        self, file: IO[bytes], columns: Sequence[str], own: Sequence[OwnColumn], types: pa.Schema | None
    ) -> None:
        self._arrow = arrow = library("pyarrow", "Writing Parquet")
        parquet = library("pyarrow.parquet", "Writing Parquet")
        self.notes: list[str] = []
        kinds = {
            Kind.TEXT: arrow.string(),
            Kind.NUMBER: arrow.float64(),
            Kind.ESTIMATE: arrow.float64(),
            Kind.TRUTH: arrow.bool_(),
        }
        inputs = [(name, arrow.string() if types is None else types.field(name).type) for name in columns]
        self._schema = arrow.schema([*inputs, *((column.name, kinds[column.kind]) for column in own)])
        self._writer = parquet.ParquetWriter(_Sink(file), self._schema)
        self._buffer: list[tuple[Any, ...]] = []
        self._size = 0

    def write(self, cells: Sequence[Any], own: Sequence[Any]) -> None:
        """Add a row: first the input's cells, then the added cells (`own`). If the row group is full, write it."""
        row = (*cells, *own)
        self._buffer.append(row)
        self._size += sum(len(cell) for cell in row if isinstance(cell, str))
        if len(self._buffer) >= _ROWS or self._size >= _CHARACTERS:
            self._flush()

    def close(self) -> None:
        """Write the last row group and the end of the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._buffer:
            columns = zip(*self._buffer, strict=True)
            arrays = [self._array(values, each.type) for values, each in zip(columns, self._schema, strict=True)]
            self._writer.write_batch(self._arrow.record_batch(arrays, schema=self._schema))
        self._buffer, self._size = [], 0

    def _array(self, values: Sequence[Any], kind: Any) -> Any:
        types = self._arrow.types
        if types.is_string(kind) or types.is_large_string(kind):
            return self._arrow.array([_text(value) for value in values], kind)
        values = [value.raw if isinstance(value, RawText) else value for value in values]
        try:
            return self._arrow.array(values, kind)
        except (self._arrow.ArrowException, TypeError, ValueError, OverflowError):
            return self._arrow.array([_text(value) for value in values], self._arrow.string()).cast(kind)


class _Sink:
    """A file that ignores what is written to it after it was closed.

    If an error stops the job, the file may be closed before pyarrow's writer is deleted. When this writer is deleted,
    it still writes the end of the table.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        """Write bytes, and return their number."""
        return len(data) if self._file.closed else self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = exact_text(value)
    return text if text.isascii() else encodable(text)
