"""Reads labelled rows from a table: each row has the fields of a task, and the right answer in a column of its own.

The table is read, and its columns become fields, as for a job. The right answer is in the column that the user names,
or in the column `output`, `answer`, `label` or `gold`. Instead, a table of extractions may have a column for each
attribute, like a job's output. A person may write an answer as in a review table: `B`, `positive` or `TRUE` is enough.
If a table has the columns that a job adds, its column `answer` may hold the model's answers. Then this column is read
only if the user names it.

Each row becomes a labelled row in this project's format, {"input": {…}, "output": "…"}. For a row that cannot be read,
there is an error, and the next rows are still read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tables.cells import cell_text, is_empty
from ecellm_lite.tables.columns import ColumnMap, MapOptions
from ecellm_lite.tables.mapped_row import MappedRow
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.row import Table, TableOptions
from ecellm_lite.tasks.attributes import Attribute
from ecellm_lite.tasks.task import Task

ANSWERS = ("output", "answer", "label", "gold")
PLACES = ("task", "split", "setting", "source")  # where a row is in a data set, and where it comes from
BESIDE = ("probability", "abstained")  # a job adds them beside its answers
FORMS = (".jsonl", ".csv", ".tsv", ".xlsx")

Row = Mapping[str, Any]
Selects = Callable[[Row], bool]


@dataclass(frozen=True, slots=True)
class LabelledOptions:
    """Options for reading labelled rows from a table.

    `table`, `map`: how the table is read, and which column fills which field, as for a job.
    `answer_column`: the column with the right answers. With None, it is found by its name.
    `describe`: called with sentences that say how each table was read.
    """

    table: TableOptions = field(default_factory=TableOptions)
    map: MapOptions = field(default_factory=MapOptions)
    answer_column: str | None = None
    describe: Callable[[str], None] | None = None


def labelled_file(folder: Path, split: str) -> Path | None:
    """Return a folder's file of labelled rows, such as `test.jsonl` or `test.xlsx` for the split `test`, or None.

    Raises UsageError if there are several.
    """
    files = [path for form in FORMS if (path := folder / f"{split}{form}").is_file()]
    if len(files) > 1:
        names = " and ".join(path.name for path in files)
        raise UsageError(f"The folder {folder} has {names}", step="keep one of them there", settings=("data",))
    return files[0] if files else None


def labelled_rows(
    path: Path, task: Task | None, options: LabelledOptions | None = None, selects: Selects | None = None
) -> Iterator[tuple[int, Row | InputError]]:
    """Yield each row of a table: its line number, and the labelled row, or an error if the row cannot be read.

    A row of JSON Lines that has an `output` is yielded unchanged, unless an option says otherwise.

    `task`: the task of all rows, or None if each row of a JSON Lines file names its own.
    `selects`: called with what a row has under `task`, `split`, `setting` and `source`. If it returns False, the row is
      left out, even if it cannot be read. It is not called if `task` is None.

    Raises InputError if the file is not a table. Raises UsageError if a field or the right answers have no column.
    """
    options = options or LabelledOptions()
    with open_table(path, options.table) as table:
        if task is not None:
            yield from _LabelledTable(table, task, options).rows(selects)
        elif table.columns is None:
            yield from ((row.line, row.error or row.cells) for row in table.rows())
        else:
            message = f"{path} is a table, and the rows of a table are all of one task"
            raise InputError(message, step="name that task", settings=("tasks",), file=str(path))
        for note in table.notes:
            _describe(options, f"{table.name}: {note}.")


def labelled_row(task: Task, row: Row, output: Any) -> dict[str, Any]:
    """Return a row with `output`, its right answer, in the format that `eval`, `calibrate` and `train` read.

    `output`: the answer in the form that Space.label returns.
    """
    identity = {"id": row["id"]} if row.get("id") is not None else {}
    if "input" in row and "input" not in {each.name for each in task.fields}:  # as in ECInstruct's files
        return {**row, "task": task.name, "output": output}  # the row may name the data set's task
    fields = {name: value for name, value in row.items() if name != "id"}
    return {**identity, "task": task.name, "input": fields, "output": output}


class _LabelledTable:
    """An open table of labelled rows."""

    def __init__(self, table: Table, task: Task, options: LabelledOptions) -> None:
        self._table = table
        self._task = task
        self._name = options.answer_column
        self._map = ColumnMap(task, table.columns, options.map)
        self._fields = {each.name for each in task.fields}
        self._column: str | None = None
        self._attributes: Sequence[Attribute] = ()
        self._used = {column for columns in self._map.columns.values() for column in columns}
        if table.columns is not None:
            self._column = self._answer_column(table.columns)
            if self._column is None:
                self._attributes = self._attribute_columns(table.columns)
            answers = [self._column] if self._column else [attribute.name for attribute in self._attributes]
            reading = f"{self._map.description}, the right answer from {' and '.join(map(repr, answers))}"
            _describe(options, f"{table.description}; {reading}.")

    def rows(self, selects: Selects | None) -> Iterator[tuple[int, Row | InputError]]:
        for mapped in self._map.rows(self._table):
            if mapped.skipped:
                continue
            try:
                if selects and not selects(self._places(mapped)):
                    continue
                row: Row | InputError = mapped.error or self._labelled(mapped)
            except InputError as error:
                row = error
            yield mapped.source.line, row

    def _labelled(self, mapped: MappedRow) -> Row:
        assert mapped.row is not None
        cells = mapped.source.cells
        if self._attributes:
            values = {attribute.name: _values(attribute, cells.get(attribute.name)) for attribute in self._attributes}
            return self._row(mapped, json.dumps(values))
        column = self._column
        if self._table.columns is None:
            column = self._answer_column(tuple(cells))
            if column is None or (column == "output" and not self._name and mapped.row.get("output") is not None):
                return mapped.row
        assert column is not None
        answer = cells.get(column)
        if is_empty(answer):
            raise InputError(
                f"The column {column!r} is empty",
                step="fill in the right answer, or leave such rows out",
                settings=("only_where",),
                field="output",
            )
        return self._row(mapped, answer if isinstance(answer, list) else cell_text(answer))

    def _row(self, mapped: MappedRow, answer: str | list[Any]) -> Row:
        assert mapped.row is not None
        space = self._task.question(mapped.row).space
        output = space.label(space.normalized(answer)) if isinstance(answer, str) else answer
        if isinstance(mapped.row.get("input"), Mapping) and "input" not in self._fields:
            return {**mapped.row, "output": output}
        row = {name: value for name, value in mapped.row.items() if name not in {*ANSWERS, *PLACES} - self._fields}
        return {**labelled_row(self._task, row, output), **self._places(mapped)}

    def _places(self, mapped: MappedRow) -> Row:
        """Return a row's cells in the columns PLACES (task, split, setting, source).

        Empty cells are left out, and so are columns that fill a field.
        """
        cells, used = mapped.source.cells, self._fields | self._used
        return {name: cells[name] for name in PLACES if name not in used and not is_empty(cells.get(name))}

    def _answer_column(self, columns: Sequence[str]) -> str | None:
        """Return the column with the right answer, or None if there is none.

        Raises UsageError if several columns may have it, if the only such column may have a model's answers instead, or
        if the table has no column with the name that the user gave.
        """
        if self._name is not None:
            named = [column for column in columns if column == self._name] or [
                column for column in columns if column.strip().casefold() == self._name.strip().casefold()
            ]
            if len(named) != 1 and self._table.columns is not None:
                raise UsageError(
                    f"There is no column {self._name!r}",
                    step=f"use one of {_listed(columns)}",
                    settings=("answer_column",),
                )
            return named[0] if named else None
        used = self._fields | self._used
        candidates = [column for column in columns if column.strip().casefold() in ANSWERS and column not in used]
        if self._table.columns is None and "output" in candidates:
            return "output"
        if self._is_of_job(columns):
            models = [column for column in candidates if column.strip().casefold() == "answer"]
            candidates = [column for column in candidates if column not in models]
            if models and not candidates:
                raise UsageError(
                    f"The column {models[0]!r} of {self._table.name} may have a model's answers, because"
                    f" {' and '.join(map(repr, BESIDE))} are beside it",
                    step="name the column that has the right answers",
                    settings=("answer_column",),
                )
        if len(candidates) > 1:
            raise UsageError(
                f"The columns {_listed(candidates)} of {self._table.name} may each have the right answers",
                step="name the one that has them",
                settings=("answer_column",),
            )
        return candidates[0] if candidates else None

    def _is_of_job(self, columns: Sequence[str]) -> bool:
        """Return whether a table has the columns that a job writes beside its answers, such as `probability`."""
        return {column.strip().casefold() for column in columns} - self._fields - self._used >= {*BESIDE}

    def _attribute_columns(self, columns: Sequence[str]) -> Sequence[Attribute]:
        """Return an extraction's attributes.

        Raises UsageError if there are no attributes, if an attribute has no column, or if the columns may have a
        model's values instead of the right ones.
        """
        attributes = self._map.attributes
        missing = [attribute.name for attribute in attributes if attribute.name not in columns]
        if attributes and not missing:
            if self._is_of_job(columns):
                raise UsageError(
                    f"The columns {_listed([attribute.name for attribute in attributes])} of {self._table.name} may"
                    f" have a model's values, because {' and '.join(map(repr, BESIDE))} are beside them",
                    step="if a person has checked the values, remove those two columns",
                )
            return attributes
        if len(missing) < len(attributes):
            message = f"{self._table.name} has no column {_listed(missing)}, an attribute"
            raise UsageError(message, step="give each attribute a column of its right values")
        step, settings = f"name the column that has them, one of {_listed(columns)}", ["answer_column"]
        if self._task.question(self._task.example()).space.type == "extraction":
            step += ", or name attributes that are the same for all rows, with a column for each"
            settings.append("constants")
        raise UsageError(
            f"{self._table.name} has no column {', '.join(ANSWERS[:-1])} or {ANSWERS[-1]} with the right answers",
            step=step,
            settings=settings,
        )


def _values(attribute: Attribute, cell: Any) -> str | list[str] | None:
    """Return the value in an attribute's cell, or a list of values if the attribute may have several."""
    if is_empty(cell):
        return None
    text = cell_text(cell).strip()
    if attribute.form is None or attribute.form.at_most == 1:
        return text
    return [value for part in text.split(";") if (value := part.strip())]


def _describe(options: LabelledOptions, sentence: str) -> None:
    if options.describe:
        options.describe(sentence)


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(repr(column[:60]) for column in columns[:8]) + (", …" if len(columns) > 8 else "")
