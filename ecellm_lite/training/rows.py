"""Reads labelled rows for training from a folder, and holds some of them out for validation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.models.files import replacing
from ecellm_lite.tables.labelled_table import LabelledOptions, labelled_file, labelled_rows
from ecellm_lite.tasks.fields import encodable, shown
from ecellm_lite.tasks.registry import TASKS, get_task
from ecellm_lite.training.labels import read_label
from ecellm_lite.training.variation import reordered

Row = Mapping[str, Any]
Rows = Mapping[str, Sequence[Row]]  # by task

SHARE_HELD_OUT, MOST_HELD_OUT = 0.1, 250  # of a task's rows


def read_rows(*folders: Path, options: LabelledOptions | None = None) -> dict[str, list[Row]]:
    """Return the rows in the files FOLDER/TASK/train.jsonl of all folders, by task.

    A file may also be a table, such as train.csv or train.xlsx. `options` say how it is read.

    Raises InputError for a line that is not a valid labelled row, and for a folder without rows.
    """
    rows: dict[str, list[Row]] = {}
    for folder in folders:
        paths = {task: path for task in TASKS if (path := labelled_file(folder / task, "train"))}
        own = {task: _read(path, task, options) for task, path in paths.items()}
        if not any(own.values()):
            raise InputError(
                f"{folder} has no rows to train on",
                step="write them to TASK/train.jsonl in it, one per line, or to a table TASK/train.csv",
                file=str(folder),
            )
        for task, labelled in own.items():
            rows.setdefault(task, []).extend(labelled)
    return rows


def _read(path: Path, task: str, options: LabelledOptions | None) -> list[Row]:
    table = path.suffix != ".jsonl"
    rows: list[Row] = []
    for number, row in labelled_rows(path, get_task(task), options) if table else _parsed(path):
        try:
            rows.append(_labelled(row, task))
        except InputError as error:
            raise InputError(
                f"Line {number} of {path} cannot be learned: {error.message}",
                step=error.step,
                field=error.field,
                line=number,
                file=str(path),
            ) from None
    return rows


def _parsed(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the number and the row of each line of JSON Lines. The row is None if the line is not JSON."""
    try:
        lines = path.read_text("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start})", step="save it as UTF-8", file=str(path)
        ) from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, None


def _labelled(row: Any, task: str) -> Row:
    if isinstance(row, InputError):
        raise row
    if not isinstance(row, dict) or not isinstance(row.get("input"), dict) or not isinstance(row.get("output"), str):
        raise InputError("it is not a labelled row", step='write {"input": {…}, "output": "…"} on one line')
    if row.setdefault("task", task) != task:
        raise InputError(f"its task is {row['task']!r}", step="move it to the folder of that task", field="task")
    if not isinstance(row.get("source"), str | None):
        raise InputError(f"its source is {shown(row['source'])}", step="write it as a text", field="source")
    row["output"] = read_label(get_task(task).question({"input": row["input"]}).space, row["output"])
    return row


def split_rows(
    rows: Rows, random: Random, *, most: int = MOST_HELD_OUT
) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """Return the rows to learn and the held-out rows: a tenth of each task's rows, at most `most`.

    The split depends only on the rows and on `random`. A row to learn is dropped if a held-out row has the same input.
    Two inputs are the same if they differ only in an order that means nothing, such as that of two products to match.
    """
    learned, held_out = {}, {}
    for task, labelled in rows.items():
        shuffled = random.sample(labelled, len(labelled))
        count = min(most, int(len(labelled) * SHARE_HELD_OUT))
        held_out[task] = shuffled[:count]
        inputs = {_input(task, row) for row in held_out[task]}
        learned[task] = [row for row in shuffled[count:] if _input(task, row) not in inputs]
    return learned, held_out


def leave_out(rows: Rows, sources: Sequence[str]) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """Split the rows by their sources. Return the rows to learn, and the rows whose source is one of `sources`.

    A row's source is its key `source`. The source `wdc` covers `wdc/watches` and `wdc/shoes`, too. A row of another
    source is dropped if its input is the same as the input of a left-out row.

    Raises UsageError for a source that no row has, or if a task would have no rows to learn.
    """
    others: dict[str, list[Row]] = {task: [] for task in rows}
    left_out: dict[str, list[Row]] = {}
    unused = set(sources)
    for task, labelled in rows.items():
        for row in labelled:
            covering = [source for source in sources if f"{row.get('source') or ''}/".startswith(f"{source}/")]
            unused.difference_update(covering)
            (left_out.setdefault(task, []) if covering else others[task]).append(row)
        inputs = {_input(task, row) for row in left_out.get(task, ())}
        if inputs:
            others[task] = [row for row in others[task] if _input(task, row) not in inputs]
        if labelled and not others[task]:
            raise UsageError(f"All rows of {task} would be left out", step="leave out fewer sources")
    if unused:
        names = sorted({row["source"] for labelled in rows.values() for row in labelled if row.get("source")})
        step = f"name one of {', '.join(names)}" if names else 'give the rows a key "source"'
        raise UsageError(f"No row is from the source {min(unused)!r}", step=step)
    return others, left_out


def _input(task: str, row: Row) -> str:
    """Return the row's text in a prompt. Lists and products whose order training may change are in sorted order."""
    return get_task(task).question({"input": reordered(task, row["input"])}).text


def write_rows(folder: Path, rows: Rows) -> None:
    """Write rows as FOLDER/TASK/test.jsonl, from which evaluation and calibration read them."""
    for task, labelled in rows.items():
        if labelled:
            path = folder / task / "test.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                # A lone surrogate, which UTF-8 cannot encode, becomes what the model sees in its place.
                lines = (encodable(json.dumps(row, ensure_ascii=False)) + "\n" for row in labelled)
                temporary.write_text("".join(lines), "utf-8")
