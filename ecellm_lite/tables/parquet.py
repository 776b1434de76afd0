"""Reads Parquet and Arrow files (also called Feather), batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ecellm_lite.errors import InputError
from ecellm_lite.tables.cells import RawText
from ecellm_lite.tables.extras import library
from ecellm_lite.tables.header import distinct
from ecellm_lite.tables.row import Table, TableRow, fault_of
from ecellm_lite.tables.source import Source

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 1000  # rows


@dataclass(slots=True, kw_only=True)
class ColumnFile(Table):
    """A Parquet or Arrow file as a table. A cell is a Python value of its column's type, or None for null."""

    types: Any  # its Arrow schema, with distinct names
    batches: Iterator[Any]
    height: int | None
    place: int = 0

    def rows(self) -> Iterator[TableRow]:
        """Yield the rows. A row with text that is not UTF-8 has an error."""
        arrow = library("pyarrow", "A Parquet or Arrow file")
        try:
            for large in self.batches:
                for start in range(0, large.num_rows, _BATCH):
                    yield from self._rows(large.slice(start, _BATCH))
        except (arrow.ArrowException, OSError) as error:
            place = self.place + 1
            damage = InputError(
                f"{self.name} is damaged from row {place} on ({_brief(error)})", step="fetch it again", line=place
            )
            yield TableRow(place, place, {}, damage)

    @property
    def share(self) -> float | None:
        """The fraction of the rows that has been read, from 0 to 1, or None if their number is unknown (Arrow)."""
        return self.place / self.height if self.height else None

    @property
    def schema(self) -> pa.Schema | None:
        """The Arrow schema: each column's name and type."""
        return self.types

    def _rows(self, batch: Any) -> Iterator[TableRow]:
        assert self.columns is not None
        values = [_values(column) for column in batch.columns]
        for cells in zip(*values, strict=True) if values else ():
            self.place += 1
            row = dict(zip(self.columns, cells, strict=True))
            yield TableRow(self.place, self.place, row, _error(row, self.place))


def open_parquet(source: Source) -> ColumnFile:
    """Return a Parquet file as a table. Raises InputError for any other file."""
    arrow = library("pyarrow", "A Parquet file")
    parquet = library("pyarrow.parquet", "A Parquet file")
    try:
        file = parquet.ParquetFile(source.seekable(), pre_buffer=False)
        batches = file.iter_batches(batch_size=_BATCH)
        return _column_file(source, "Parquet", file.schema_arrow, batches, file.metadata.num_rows)
    except (arrow.ArrowException, OSError) as error:
        raise _unreadable(source, "Parquet", error) from None


def open_arrow(source: Source) -> ColumnFile:
    """Return an Arrow file (Feather) or Arrow stream as a table. Raises InputError for any other file."""
    arrow = library("pyarrow", "An Arrow file")
    try:
        if source.head.startswith(b"ARROW1"):
            file = arrow.ipc.open_file(source.seekable())
            batches = (file.get_batch(index) for index in range(file.num_record_batches))
            return _column_file(source, "Arrow", file.schema, batches, None)
        stream = arrow.ipc.open_stream(source.stream)
        return _column_file(source, "Arrow stream", stream.schema, iter(stream), None)
    except (arrow.ArrowException, OSError) as error:
        raise _unreadable(source, "Arrow", error) from None


def _column_file(source: Source, form: str, schema: Any, batches: Iterator[Any], height: int | None) -> ColumnFile:
    arrow = library("pyarrow", form)
    columns = distinct(schema.names)
    if not columns:
        raise InputError(f"{source.name} has no columns", step="give a table with columns and rows")
    types = arrow.schema([arrow.field(name, kind) for name, kind in zip(columns, schema.types, strict=True)])
    rows = f", {height:,} rows" if height is not None else ""
    return ColumnFile(
        source=source,
        columns=columns,
        description=f"{source.name}: {form}{rows}; {len(columns)} {'column' if len(columns) == 1 else 'columns'}",
        types=types,
        batches=batches,
        height=height,
    )


def _values(column: Any) -> Sequence[Any]:
    """Return a column's values as Python values.

    Values that Python cannot represent, such as nanoseconds or the year 10000, become RawText objects (see cells.py).
    """
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):
        return [_scalar(cell) for cell in column]
    return values


def _scalar(cell: Any) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return cell.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")
    except (ValueError, OverflowError):
        return RawText(cell.cast("string").as_py(), cell.value)


def _error(row: dict[str, Any], place: int) -> InputError | None:
    for column, cell in row.items():
        if not isinstance(cell, str):
            continue
        reason = fault_of(cell)
        if not cell.isascii() and any("\udc80" <= character <= "\udcff" for character in cell):
            reason = "is not UTF-8"
            row[column] = cell.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if reason:
            where = f"Row {place}, column {column!r},"
            return InputError(f"{where} {reason}", step="correct it there", field=column, line=place)
    return None


def _unreadable(source: Source, form: str, error: Exception) -> InputError:
    message = f"{source.name} is not a readable {form} file ({_brief(error)})"
    return InputError(message, step="fetch it again", file=source.name)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:100]
