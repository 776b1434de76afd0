"""Reads CSV, TSV and other delimited text. Shop software often writes irregular files, and these are read too."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile

from ecellm_lite.errors import InputError
from ecellm_lite.tables.decimal_sign import has_decimal_commas
from ecellm_lite.tables.dialect_finder import Reading, find_dialect
from ecellm_lite.tables.dialects import Dialect
from ecellm_lite.tables.encoding import Encoding, find_encoding
from ecellm_lite.tables.header import SampleRow, TableHeader, find_header
from ecellm_lite.tables.lines import line_end, read_lines
from ecellm_lite.tables.records import Record, Records
from ecellm_lite.tables.row import Table, TableOptions, TableRow
from ecellm_lite.tables.source import Source
from ecellm_lite.tables.totals import without_totals

_SAMPLE_LINES = 2000
_SAMPLE_BYTES = 1 << 18
_SEPARATOR = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)  # a first line that Excel understands, such as `sep=;`


@dataclass(slots=True, kw_only=True)
class CsvFile(Table):
    """A file of delimited text."""

    encoding: Encoding
    dialect: Dialect
    end: str  # of a line
    first_line: int
    total_rows: bool

    def rows(self) -> Iterator[TableRow]:
        """Yield the rows. If a row cannot be read, or has too many or too few cells, its `error` says so.

        Rows without any text are left out.
        """
        rows = self._all_rows()
        return rows if self.total_rows else without_totals(rows, self.notes)

    def _all_rows(self) -> Iterator[TableRow]:
        assert self.columns is not None
        columns, width = self.columns, len(self.columns)
        lines = read_lines(self.source.stream, self.encoding, self.end)
        below = dropwhile(lambda line: line.number < self.first_line, lines)
        number = 0
        last = 0
        blank = 0
        try:
            for record in Records(below, self.dialect, width):
                last = record.last_line
                if record.fault is None and not any(map(str.strip, record.cells)):
                    blank += 1
                    continue
                number += 1
                cells = dict(zip(columns, record.cells, strict=False))
                error = None
                if record.fault is not None or len(record.cells) != width:
                    error = self._error(record)
                yield TableRow(number, record.line, cells, error)
        except InputError as error:  # the rest of the file is damaged
            error.line = last + 1
            yield TableRow(number + 1, last + 1, {}, error)
        if blank:
            rows = "1 row without any text was" if blank == 1 else f"{blank:,} rows without any text were"
            self.notes.append(f"{rows} left out")

    def _error(self, record: Record) -> InputError:
        assert self.columns is not None
        fault, columns = record.fault, self.columns
        if fault is not None:
            field = None if fault.cell is None or fault.cell >= len(columns) else columns[fault.cell]
            where = f"Line {record.line}" + (f", column {field!r}," if field else "")
            settings = ("encoding",) if "encoding" in fault.reason else ()
            return InputError(
                f"{where} {fault.reason}", step=fault.step, settings=settings, field=field, line=record.line
            )
        count = len(record.cells)
        return InputError(
            f"Line {record.line} has {count} {'cell' if count == 1 else 'cells'} for {len(columns)} columns",
            step="quote cells that contain delimiters or quotes, and add missing cells",
            line=record.line,
        )


def open_csv(source: Source, options: TableOptions) -> CsvFile:
    """Detect the dialect and header of delimited text, and return the open file.

    Raises InputError if the text has no rows.
    """
    encoding = _encoding(source, options)
    whole = source.whole and len(source.head) <= _SAMPLE_BYTES
    sample = source.head if whole else source.head[: max(_SAMPLE_BYTES, encoding.skip)]
    end = line_end(sample.decode(encoding.codec, "replace"))
    lines = list(read_lines(io.BytesIO(sample), encoding, end))
    if not whole and len(lines) > 1:
        lines = lines[:-1]
    lines, whole = lines[:_SAMPLE_LINES], whole and len(lines) <= _SAMPLE_LINES
    delimiter = options.delimiter
    separator = _SEPARATOR.fullmatch(lines[0].text) if lines else None
    if separator:
        delimiter, lines = delimiter or separator[1], lines[1:]
    reading = find_dialect(lines, whole=whole, delimiter=delimiter, quote=options.quote)
    if not reading.records:
        raise InputError(f"{source.name} has no rows", step="give a table with a header and rows", file=source.name)
    header = _header(reading, options)
    first_line = max(header.last, lines[0].number - 1) + 1
    width = len(header.columns)
    parts = [encoding.label, reading.dialect.label, *header.findings]
    # Excel's "Unicode Text". A file like it opens in columns in every country, whatever delimiter Excel has there.
    unicode_text = encoding.codec.startswith("utf-16") and reading.dialect.delimiter == "\t"
    data = (cell for record in reading.records if record.line >= first_line for cell in record.cells)
    decimal_comma = has_decimal_commas(data, reading.dialect.delimiter)
    return CsvFile(
        source=source,
        columns=header.columns,
        description=f"{source.name}: CSV, {', '.join(parts)}; {width} {'column' if width == 1 else 'columns'}",
        delimiter="\t" if unicode_text else ";" if decimal_comma or reading.dialect.delimiter == ";" else ",",
        bom=not encoding.plain,
        utf16=unicode_text,
        decimal_comma=decimal_comma,
        encoding=encoding,
        dialect=reading.dialect,
        end=end,
        first_line=first_line,
        total_rows=options.total_rows,
    )


def _encoding(source: Source, options: TableOptions) -> Encoding:
    head = source.head
    if not source.whole and options.encoding is None and head.isascii() and b"\0" not in head:
        # The first bytes are ASCII, so only later bytes can tell encodings apart.
        return find_encoding(source.beyond_ascii(), whole=False, name=source.name)
    return find_encoding(head, whole=source.whole, encoding=options.encoding, name=source.name)


def _header(reading: Reading, options: TableOptions) -> TableHeader:
    rows = [SampleRow(record.line, record.last_line, record.cells) for record in reading.records]
    return find_header(rows, reading.width, options.header_row)
