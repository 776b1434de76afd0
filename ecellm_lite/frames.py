"""Answers every row of a data frame with any Answerer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ecellm_lite.answerer import Answerer, RequestOptions
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack

# The column of each field, or several columns: a list field takes them as items, and a text field joins them.
FrameMap = Mapping[str, "str | Sequence[str]"]


def answers_frame(
    answerer: Answerer,
    task: str | Task,
    frame: Any,
    *,
    map: FrameMap | None = None,  # noqa: A002 - as the option of the command line is called
    constants: Mapping[str, Any] | None = None,
    **options: Unpack[RequestOptions],
) -> Any:
    """Return a copy of a data frame (pandas, polars or pyarrow) with each row's answer in added columns.

    As in a job, the columns are `answer`, `probability`, `confidence`, `abstained`, `warnings` and `error`. For an
    extraction, there is also a column for each attribute, if the attributes are the same in all rows. A failed row has
    its error in `error`.

    `map`: {field: column} for each field whose column has another name. If a field takes several columns, give a list
      of their names.
    `constants`: values of fields that are the same in all rows.

    Raises UsageError for columns that do not fit the task. Raises InputError if `frame` is not a data frame.
    """
    from ecellm_lite.tables.columns import ColumnMap, MapOptions
    from ecellm_lite.tables.frame import Frame
    from ecellm_lite.tables.results import AnswerColumns

    task = task if isinstance(task, Task) else get_task(task)
    table = Frame(frame)
    pairs = [
        f"{field}={column}"
        for field, columns in (map or {}).items()
        for column in ([columns] if isinstance(columns, str) else columns)
    ]
    columns = ColumnMap(task, table.columns, MapOptions(map=pairs, constants=constants or {}))
    own = AnswerColumns.of(task, table.columns, attributes=columns.attributes)
    rows = [columns.row(source) for source in table.rows()]
    answers = answerer.answers(task, (row.request for row in rows), **options)
    values = [own.values(row.warned(answer)) for row, answer in zip(rows, answers, strict=True)]
    return table.with_columns(own.columns, values)
