"""Maps a table's columns to a task's fields.

A column with the name of a field fills that field. Other columns are mapped by options such as `product_1.title=Title`.
A missing column is reported before the first row is read and before a model is loaded.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from ecellm_lite.answers.answer import AnswerWarning
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tables.cells import is_empty
from ecellm_lite.tables.dialects import DELIMITERS
from ecellm_lite.tables.field_values import Html, cell_value, field_value, put_value
from ecellm_lite.tables.mapped_row import MappedRow
from ecellm_lite.tables.row import Table, TableRow
from ecellm_lite.tasks.attributes import Attribute, AttributesField, attributes_of
from ecellm_lite.tasks.fields import Field, RecordField
from ecellm_lite.tasks.task import Task

_ID = "id"
_WIRE = ("instruction", "input", "options")
_LEAST_ALIKE = 0.5  # of a field's name
_LEAST_ALIKE_COLUMN = 0.75  # `Preis` and `review` are alike by more than a half
_LONGEST = 60  # characters of a shown column


@dataclass(frozen=True, slots=True)
class MapOptions:
    """Options for mapping a table's columns to a task's fields.

    `map`: pairs `FIELD=COLUMN`. A field may be mapped to several columns. A list field gets their texts as a list. A
      text field gets their texts joined with spaces.
    `constants`: values of fields that are the same for all rows.
    `only_where`: a column. Rows with an empty cell in this column are skipped.
    `fill_down`: columns in which an empty cell gets the value of the row above.
    `html`: which cells are converted from HTML to text: all cells (`text`), no cells (`keep`), or the cells that
      clearly are HTML (`auto`).
    """

    map: Sequence[str] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)
    only_where: str | None = None
    fill_down: Sequence[str] = ()
    html: Html = "auto"


class ColumnMap:
    """A mapping of a task's fields to a table's columns."""

    def __init__(self, task: Task, columns: Sequence[str] | None, options: MapOptions | None = None) -> None:
        """Map the columns. Raises UsageError if a mapped column does not exist, or if a required field has no column.

        `columns` is None for JSON Lines, where each row has its own columns.
        """
        self._task = task
        self._options = options or MapOptions()
        self._columns = None if columns is None else tuple(columns)
        self._fields = _leaves(task)
        self._above: dict[str, Any] = {}
        self.columns: dict[str, tuple[str, ...]] = self._mapped()
        self._only_where = self._options.only_where and self._column(self._options.only_where, "only_where")
        self._fill_down = [self._column(column, "fill_down") for column in self._options.fill_down]
        self._constants = {
            name: field_value(self._fields.get(name), [value]) if isinstance(value, str) else value
            for name, value in self._options.constants.items()
        }
        self._unmapped = self._columns is None and not self.columns
        self._own = [each.name for each in task.fields if each.name not in self.columns] + [_ID]
        if not self._unmapped and self._columns is not None:
            self._name_by_name()
            self._check()

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The attributes that all rows of an extraction ask for. Empty if rows may ask for different attributes."""
        fields = [each for each in self._fields.values() if isinstance(each, AttributesField)]
        if not fields:
            return attributes_of(self._task.question(self._task.example()).space)
        value = self._constants.get(fields[0].name)
        with suppress(InputError):  # each row will have this error
            return fields[0].read(list(value) if isinstance(value, tuple) else value, fields[0].name)
        return ()

    @property
    def description(self) -> str:
        """A sentence that says which column fills which field."""
        if self._unmapped:
            return "rows are read unchanged"
        pairs = [f"{name} from {' and '.join(map(repr, columns))}" for name, columns in self.columns.items()]
        return ", ".join(pairs)

    def rows(self, table: Table) -> Iterator[MappedRow]:
        """Yield a table's rows as rows of the task."""
        return map(self.row, table.rows())

    def row(self, source: TableRow) -> MappedRow:
        """Return a table's row as a row of the task.

        Call this method in the order of the table's rows, because an empty cell may get the value of the row above.
        """
        if source.error is not None:
            return MappedRow(source, None, source.error)
        cells = self._filled(source.cells) if self._fill_down else source.cells
        if self._only_where and is_empty(cells.get(self._only_where)):
            return MappedRow(source, None)
        row: dict[str, Any] = {}
        changed: list[str] = []
        if self._unmapped:
            row.update(cells)
        elif self._columns is None:  # each row has its own columns
            row.update((name, cells[name]) for name in self._own if name in cells)
        for name, columns in self.columns.items():
            values = [cell_value(cells.get(column), self._options.html, changed, column) for column in columns]
            if values := [value for value in values if value is not None]:
                put_value(row, name, field_value(self._fields.get(name), values))
        if not self._unmapped and not row.keys() - {_ID}:
            return MappedRow(source, None, self._nothing(source))
        for name, value in self._constants.items():
            put_value(row, name, value)
        warnings = (_was_html(changed),) if changed else ()
        return MappedRow(source, row, warnings=warnings)

    def _mapped(self) -> dict[str, tuple[str, ...]]:
        mapped: dict[str, tuple[str, ...]] = {}
        for pair in self._options.map:
            name, equals, column = pair.partition("=")
            if not equals or not column:
                raise UsageError(f"{pair!r} is not a mapping", step="write FIELD=COLUMN", settings=("map",))
            name = self._field(name.strip(), column.strip())
            mapped[name] = (*mapped.get(name, ()), self._column(column, "map"))
        for name in self._options.constants:
            self._field(name)
        return mapped

    def _field(self, name: str, column: str = "") -> str:
        names = field_names(self._task)
        if name not in names:
            if column in names and name in (self._columns or ()):
                raise UsageError(
                    f"{name!r} is a column and {column!r} a field", step=f"write {column}={name}", settings=("map",)
                )
            near = get_close_matches(name, names, n=3, cutoff=_LEAST_ALIKE)
            raise UsageError(
                f"{self._task.name} has no field {name!r}",
                step=f"use one of {', '.join(near or self._fields)}",
                settings=("map",),
            )
        return name

    def _column(self, name: str, setting: str) -> str:
        if self._columns is None or name in self._columns:
            return name
        alike = [column for column in self._columns if _plain(column) == _plain(name)]
        if len(alike) == 1:
            return alike[0]
        self._check_delimiter()
        raise UsageError(
            f"There is no column {name!r}",
            step=f"use one of {_listed([repr(column) for column in _near_first(name, self._columns)])}",
            settings=(setting,),
        )

    def _check_delimiter(self) -> None:
        """Raise UsageError if the table was read as a single column although its header contains a delimiter."""
        if self._columns and len(self._columns) == 1 and any(each in self._columns[0] for each in DELIMITERS):
            raise UsageError(
                f"The table was read as one column {self._columns[0][:60]!r}: its lines have unequal numbers of cells",
                step="name its delimiter",
                settings=("delimiter",),
            )

    def _name_by_name(self) -> None:
        """Map each field that is not mapped yet to the column with the same name or, if there is none, a similar name.

        Skip the field if several columns have such a name.
        """
        assert self._columns is not None
        names = [*self._fields, _ID]
        if {"instruction", "input"} <= set(self._columns) and "input" not in self._fields:
            names = [*_WIRE, _ID]  # rows in the format of the ECInstruct data set
        for name in names:
            if name in self.columns or name in self._options.constants:
                continue
            exact = [column for column in self._columns if column == name]
            alike = exact or [column for column in self._columns if _plain(column) == _plain(name)]
            if len(alike) == 1:
                self.columns[name] = (alike[0],)

    def _check(self) -> None:
        assert self._columns is not None
        columns = {*self.columns, *self._options.constants}
        if "input" in columns and "input" not in self._fields:
            return
        for name, each in self._fields.items():
            if (
                name not in columns
                and each.required
                and (_is_required(name, self._task) or _has_sibling(name, columns))
            ):
                raise self._missing(name, each)
        if not self.columns.keys() - {_ID}:
            raise self._missing(next(iter(self._fields)), next(iter(self._fields.values())))

    def _missing(self, name: str, each: Field) -> UsageError:
        assert self._columns is not None
        self._check_delimiter()
        pairs = [shlex.quote(f"{name}={column}") for column in _near_first(name, self._columns)]
        return UsageError(
            f"{self._task.name} needs {name} ({each.doc.rstrip('.')}), and no column has that name",
            step=f"map the column that has it, with one of {_listed(pairs)}",
            settings=("map",),
            field=name,
        )

    def _nothing(self, source: TableRow) -> InputError:
        """Return the error for a row in which all mapped columns are empty."""
        mapped = [column for name, columns in self.columns.items() if name != _ID for column in columns]
        return InputError(
            f"Line {source.line} has nothing in {', '.join(map(repr, mapped))}",
            step="fill it in, or use only rows that have a value there",
            settings={"only_where": mapped[0]} if len(mapped) == 1 else ("only_where",),
            line=source.line,
        )

    def _filled(self, cells: Mapping[str, Any]) -> Mapping[str, Any]:
        cells = dict(cells)
        for column in self._fill_down:
            if is_empty(cells.get(column)):
                cells[column] = self._above.get(column)
            else:
                self._above[column] = cells[column]
        return cells


def field_names(task: Task) -> list[str]:
    """Return the names that a column can be mapped to: the task's fields, the id, and ECInstruct's fields."""
    return [*_leaves(task), _ID, *_WIRE]


def _leaves(task: Task) -> dict[str, Field]:
    """Return a task's fields by name. A field inside a record (an object) has a name such as `product_1.title`."""
    leaves: dict[str, Field] = {}
    for each in task.fields:
        if isinstance(each, RecordField):
            leaves.update({f"{each.name}.{inner.name}": inner for inner in each.fields})
        else:
            leaves[each.name] = each
    return leaves


def _is_required(name: str, task: Task) -> bool:
    """Return whether every row must have this field. A field inside a record is required if the record is required."""
    record = name.partition(".")[0]
    return all(each.required for each in task.fields if each.name == record)


def _has_sibling(name: str, columns: set[str]) -> bool:
    record, dot, _ = name.partition(".")
    return bool(dot) and any(other.startswith(f"{record}.") for other in columns)


def _plain(name: str) -> str:
    """Simplify a name so that similar names are equal: "g:Product_Type" becomes "producttype"."""
    return re.sub(r"[\W_]+", "", name.casefold().strip().removeprefix("g:"))


def _near_first(name: str, columns: Sequence[str]) -> list[str]:
    """Return the columns in the table's order, but those with a name very similar to `name` first."""
    plain = {_plain(column): column for column in columns}
    plain_name = _plain(name.rpartition(".")[2])
    near = [plain[each] for each in get_close_matches(plain_name, list(plain), n=5, cutoff=_LEAST_ALIKE_COLUMN)]
    return [column[:_LONGEST] for column in (*near, *(column for column in columns if column not in near))]


def _listed(texts: Sequence[str]) -> str:
    """Return a list as text for an error message. Only its first eight entries are shown."""
    return ", ".join(texts[:8]) + (", …" if len(texts) > 8 else "")


def _was_html(columns: Sequence[str]) -> AnswerWarning:
    shown = ", ".join(repr(column) for column in columns)
    return AnswerWarning("html_removed", f"HTML in {shown} was read as text.")
