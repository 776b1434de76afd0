"""A task that a job asks about every row, and the columns that fill the task's fields."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ecellm_lite.answers.options import OneOf
from ecellm_lite.errors import UsageError
from ecellm_lite.jobs.journal import row_key
from ecellm_lite.tables.columns import ColumnMap, MapOptions, field_names
from ecellm_lite.tables.mapped_row import MappedRow
from ecellm_lite.tables.results import AnswerColumns, OwnColumn
from ecellm_lite.tasks.task import Task


@dataclass(frozen=True, slots=True)
class JobTask:
    """A task and its mapping of columns. `alone`: whether it is the job's only task."""

    task: Task
    columns: ColumnMap
    alone: bool = True

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @property
    def description(self) -> str:
        """A sentence that says which columns fill the task's fields.

        It begins with the task's name if the job has several tasks.
        """
        return self.columns.description if self.alone else f"{self.name}: {self.columns.description}"

    def key(self, mapped: MappedRow) -> bytes | None:
        """Return the hash under which the job's journal stores the answer to this task for this row.

        For a row that could not be read, it is a hash of the row's cells. None if the row is skipped.
        """
        if mapped.skipped:
            return None
        key = row_key({"cells": mapped.source.cells} if mapped.row is None else mapped.row)
        return key if self.alone else hashlib.sha256(self.name.encode() + b"\0" + key).digest()

    @property
    def options(self) -> tuple[str, ...]:
        """The answers that every row may get, as the column `answer` shows them.

        Empty if they cannot be listed, or if each row has options of its own.
        """
        example = self.task.example()
        # Where the options come from the row, its lists in reverse order give other options.
        reverse = {name: value[::-1] if isinstance(value, list) else value for name, value in example.items()}
        question = self.task.question(example)
        if not isinstance(question.space, OneOf) or question.options != self.task.question(reverse).options:
            return ()
        return tuple(option.label for option in question.space.offered)

    def answer_columns(self, before: Sequence[str], more: Sequence[OwnColumn] = ()) -> AnswerColumns:
        """Return the columns for this task's answers, followed by the columns `more`.

        `before` are the other columns of the output. A new column with the same name as one of them is renamed.
        """
        attributes = self.columns.attributes
        return AnswerColumns.of(self.task, before, attributes=attributes, more=more, named=not self.alone)


def job_tasks(tasks: Sequence[Task], columns: Sequence[str] | None, options: MapOptions) -> tuple[JobTask, ...]:
    """Return each task with its mapping of a table's columns.

    If there are several tasks, each task uses only the mappings and constants for fields that it has. Raises UsageError
    if the columns do not fit a task, if a mapped field belongs to none of the tasks, or if two tasks share a name.
    """
    if len(tasks) == 1:
        return (JobTask(tasks[0], ColumnMap(tasks[0], columns, options)),)
    names = [task.name for task in tasks]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"Two tasks have the name {twice}", step="give each task once", settings=("task",))
    fields = {name for task in tasks for name in field_names(task)}
    for name in (*map(_field, options.map), *options.constants):
        if name not in fields:
            raise UsageError(
                f"None of the tasks has a field {name!r}",
                step=f"use one of {', '.join(sorted(fields))}",
                settings=("map",),
            )
    return tuple(JobTask(task, ColumnMap(task, columns, _of(options, task)), alone=False) for task in tasks)


def _of(options: MapOptions, task: Task) -> MapOptions:
    names = field_names(task)
    constants = {name: value for name, value in options.constants.items() if name in names}
    return replace(options, map=[pair for pair in options.map if _field(pair) in names], constants=constants)


def _field(pair: str) -> str:
    return pair.partition("=")[0].strip()
