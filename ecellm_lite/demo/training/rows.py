"""Labelled rows: read from a folder, and some of them set aside, so that a training can be judged by them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from ecellm_lite.errors import InputError
from ecellm_lite.models.files import replacing
from ecellm_lite.tasks.registry import TASKS, get_task

Row = Mapping[str, Any]
Rows = Mapping[str, Sequence[Row]]  # by task

SHARE_HELD_OUT, MOST_HELD_OUT = 0.1, 250  # of a task's rows


def read_rows(folder: Path) -> dict[str, list[Row]]:
    """Return the labelled rows for training, by task, from FOLDER/TASK/train.jsonl; raises InputError."""
    paths = {task: folder / task / "train.jsonl" for task in TASKS}
    found = {task: _read(path, task) for task, path in paths.items() if path.is_file()}
    if not any(found.values()):
        raise InputError(f"{folder} has no rows to train on: it holds TASK/train.jsonl, with a row a line.")
    return found


def _read(path: Path, task: str) -> list[Row]:
    rows: list[Row] = []
    try:
        lines = path.read_text("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): write it so.") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(_labelled(line, task))
            except InputError as error:
                raise InputError(f"Line {number} of {path} cannot be learned: {error}") from None
    return rows


def _labelled(line: str, task: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("input"), dict) or not isinstance(row.get("output"), str):
        raise InputError('write {"input": {…}, "output": "…"} on one line.')
    if row.setdefault("task", task) != task:
        raise InputError(f"its task is {row['task']!r}: put it into that task's own folder.")
    get_task(task).question({"input": row["input"]}).space.parse(row["output"])
    return row


def split_rows(rows: Rows, random: Random) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """Return the rows that are learned, and those that are held out; the same seed draws the same rows.

    A row that asks what one asks that is held out is not learned.
    """
    learned, held_out = {}, {}
    for task, given in rows.items():
        shuffled = random.sample(given, len(given))
        count = min(MOST_HELD_OUT, int(len(given) * SHARE_HELD_OUT))
        held_out[task] = shuffled[:count]
        asked = {_asked(row) for row in held_out[task]}
        learned[task] = [row for row in shuffled[count:] if _asked(row) not in asked]
    return learned, held_out


def _asked(row: Row) -> str:
    return json.dumps(row["input"], sort_keys=True)


def write_rows(folder: Path, rows: Rows) -> None:
    """Write rows as FOLDER/TASK/test.jsonl, as `eval` and `calibrate` read them."""
    for task, own in rows.items():
        if own:
            path = folder / task / "test.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in own), "utf-8")
