"""The file with the labels of a user's own task: CSV, TSV, JSON Lines, or one label per line. The file is not trusted.

    labels = { file = "taxonomy.csv", value = "id", name = "name", parent = "above", separator = " > ", shortlist = 20 }

The end of the file's name decides its type: .csv, .tsv or .jsonl. Any other file is read as text, with one label per
line. A .csv file may also have semicolons or tabs in place of commas, as spreadsheets write it in many countries.

- `value`: the column with the label. A text file has no columns.
- `name`: the column with the text that the model writes for the label; by default, the label itself.
- `parent`: the column with the value of the parent label. For example, the row of `Puzzles` has the value of `Toys` in
  this column, and the row of `Toys` has an empty cell. With this key, the model writes whole paths, such as
  `Toys > Puzzles`.
- `description`: a column that explains the label. The prompt shows it if the list of labels is short enough.
- `separator`: the text between the parts of a path, by default ` > `.
- `shortlist`: if a prompt cannot list all labels, it lists this number of labels, which are the most similar to the
  row. By default, the prompt then lists no labels.

Google's product taxonomy can be used unchanged: a first line that begins with `# ` counts as a comment in a text
file, and `#1 sellers` is a label.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ecellm_lite.errors import InputError
from ecellm_lite.tasks.fields import encodable, shown
from ecellm_lite.tasks.table import CONTROL, TaskTable, read_file

MAX_LABELS = 100_000
MAX_BYTES = 64 << 20
LONGEST_PATH = 500  # characters
DEEPEST = 32
SEPARATOR = " > "
LONGEST_SEPARATOR = 10

# What may stand between the cells of a file; the first one that gives all named columns does.
_DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}

# Not str.splitlines: that also ends a line at U+2028, which JSON may have in a text.
_LINE_END = re.compile("\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Label:
    """A label: its value, the text that the model writes for it, and a description (empty if there is none)."""

    value: str
    text: str
    description: str = ""


def read_labels(table: TaskTable) -> list[Label]:
    """Return the labels of a task. `table` names the file, which has 2 to 100,000 different labels.

    Raises an InputError that names the wrong key or the wrong line of the file.
    """
    table.only("file", "value", "name", "parent", "description", "separator", "shortlist")
    path = table.path_beside("file")
    separator = _separator(table)
    columns = {key: table.text(key, most=200) for key in ("value", "name", "parent", "description") if key in table}
    text = read_file(path, "the file of labels", most=MAX_BYTES)
    file = _LabelFile(path, text)
    if path.suffix.lower() not in (*_DELIMITERS, ".jsonl"):
        if columns:
            reason = f"names a column, but {path.name} is plain text without columns"
            raise table.error(next(iter(columns)), reason, "save a table as .csv, .tsv or .jsonl, or remove the key")
        rows: list[tuple[int, Mapping[str, object]]] = [(line, {"value": value}) for line, value in file.lines()]
        columns = {"value": "value"}
    else:
        table.value("value")
        rows = list(file.rows(tuple(columns.values())))
    labels = _labels(file, rows, columns, separator)
    if len(labels) < 2:
        raise table.error("file", f"has {len(labels)} labels", "give at least 2")
    return labels


def misleading_id(labels: Sequence[tuple[str, str]]) -> int | None:
    """Return the index of the first label whose value is another label's text, or None if there is no such label.

    `labels` are pairs (value, text). In [("red", "blue"), ("x", "red")], the value "red" is misleading: it stands for
    the first label, but is also the text of the second. Upper and lower case make no difference.
    """
    texts = {text.casefold(): index for index, (_, text) in enumerate(labels)}
    for index, (value, text) in enumerate(labels):
        if value != text and texts.get(value.casefold(), index) != index:
            return index
    return None


def _separator(table: TaskTable) -> str:
    separator = table.value("separator") if "separator" in table else SEPARATOR
    if not isinstance(separator, str) or not 0 < len(separator) <= LONGEST_SEPARATOR or CONTROL.search(separator):
        raise table.error("separator", f"is {shown(separator)}", f"write 1 to {LONGEST_SEPARATOR} characters")
    return separator


class _LabelFile:
    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text

    def error(self, line: int, reason: str, step: str) -> InputError:
        return InputError(f"{self._path}: line {line:,} {reason}", step=step, line=line, file=str(self._path))

    def lines(self) -> Iterator[tuple[int, str]]:
        for line, text in enumerate(_LINE_END.split(self._text), start=1):
            if text.strip() and not (line == 1 and text.startswith("# ")):
                yield line, text.strip()

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, object]]]:
        """Yield pairs: the number of a line, and the row in that line. A table must have all of `columns`."""
        delimiters = _DELIMITERS.get(self._path.suffix.lower())
        if not delimiters:
            for line, text in self.lines():
                yield line, self._object(line, text)
            return
        fitting = (delimiter for delimiter in delimiters if set(columns) <= set(self._header(delimiter)))
        delimiter = next(fitting, delimiters[0])
        header, reader = self._header(delimiter), self._reader(delimiter)
        try:
            next(reader, None)
            for column in columns:
                if header.count(column) > 1:
                    raise self.error(1, f"has the column {column!r} twice", "rename one of them")
            line = reader.line_num + 1  # where the next row begins; it may end in a later line
            for cells in reader:
                if any(cells[len(header) :]):
                    reason = f"has {len(cells)} cells, and the header {len(header)}"
                    raise self.error(line, reason, "put quotes around a text that contains the delimiter")
                if any(cells):
                    yield line, dict(zip_longest(header, cells[: len(header)]))
                line = reader.line_num + 1
        except csv.Error as error:
            raise self.error(reader.line_num, f"is not CSV ({error})", "correct it there") from None

    def _header(self, delimiter: str) -> list[str]:
        try:
            return [cell.strip() for cell in next(self._reader(delimiter), [])]
        except csv.Error:  # of another delimiter, or raised again by the reader of the rows
            return []

    def _reader(self, delimiter: str) -> Any:
        return csv.reader(io.StringIO(self._text, newline=""), delimiter=delimiter, strict=True)

    def _object(self, line: int, text: str) -> Mapping[str, object]:
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.error(line, f"is not JSON ({error})", "write one object in each line") from None
        if not isinstance(row, dict):
            raise self.error(line, "is not a JSON object", "write an object with the label's keys")
        return row


def _labels(
    file: _LabelFile, rows: Sequence[tuple[int, Mapping[str, object]]], columns: Mapping[str, str], separator: str
) -> list[Label]:
    if len(rows) > MAX_LABELS:
        raise file.error(rows[MAX_LABELS][0], f"is label {MAX_LABELS + 1:,}", f"give at most {MAX_LABELS:,}")
    cells: dict[str, dict[str, str]] = {}
    line_of: dict[str, int] = {}
    for line, row in rows:
        parts = {key: _cell(file, line, row, column, key) for key, column in columns.items()}
        value = parts["value"]
        if value in cells:
            step = f"give each label once (it is in line {line_of[value]:,})"
            raise file.error(line, f"has {value[:80]!r} a second time", step)
        cells[value], line_of[value] = parts, line
    labels: dict[str, Label] = {}
    for value, parts in cells.items():
        text = _path(file, value, cells, line_of, separator)
        if len(text) > LONGEST_PATH:
            reason = f"has a label of {len(text):,} characters"
            raise file.error(line_of[value], reason, f"shorten it to {LONGEST_PATH}")
        if text in labels:
            raise file.error(line_of[value], f"repeats the path {text[:80]!r}", "give each path once")
        labels[text] = Label(value, text, parts.get("description", ""))
    misleading = misleading_id([(label.value, label.text) for label in labels.values()])
    if misleading is not None:
        value = list(labels.values())[misleading].value
        raise file.error(line_of[value], f"has the value {value[:80]!r}, which is another label's text", "change one")
    return list(labels.values())


def _cell(file: _LabelFile, line: int, row: Mapping[str, object], column: str, key: str) -> str:
    if column not in row:
        raise file.error(line, f"has no column {column!r}", f"name one of {', '.join(map(str, row))[:200]}")
    cell = row[column]
    text = "" if cell is None else encodable(cell.strip()) if isinstance(cell, str) else json.dumps(cell)
    if not text and key in ("value", "name"):
        raise file.error(line, f"has nothing in {column!r}", "write the label, or remove the line")
    if CONTROL.search(text):
        raise file.error(line, f"has a control character or a line feed in {column!r}", "remove it")
    return text


def _path(
    file: _LabelFile,
    value: str,
    cells: Mapping[str, Mapping[str, str]],
    line_of: Mapping[str, int],
    separator: str,
) -> str:
    path = [value]
    while above := cells[path[-1]].get("parent"):
        if above not in cells:
            reason = f"has the parent {above[:80]!r}, which is no label"
            raise file.error(line_of[path[-1]], reason, "add it as a label, or leave the parent empty")
        path.append(above)
        if len(path) > DEEPEST:
            raise file.error(line_of[value], f"is more than {DEEPEST} levels deep", "check the parents for a cycle")
    return separator.join(cells[label].get("name", label) for label in reversed(path))
