"""A labelled row: a row with its gold answer, written in this project's format or in ECInstruct's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ecellm_lite.answers.space import Space
from ecellm_lite.errors import EcellmError, InputError
from ecellm_lite.submission import id_of
from ecellm_lite.tasks.fields import encodable, shown
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Task

# Two tasks as the authors' own scripts spell them.
_SPELT = {
    "product_relation_predicition": "PRP",
    "product_substitue_identification": "PSI",
}


@dataclass(frozen=True, slots=True)
class Labelled:
    """A row in the form that a Runtime accepts, the number of its line in the file, and its gold answer string.

    `labels` give the relevance of each product of a ranking, in the order of the products: E (exact), S (substitute),
    C (complement) or I (irrelevant).
    """

    task: Task
    line: int
    row: Mapping[str, Any]
    gold: str
    labels: tuple[str, ...] | None = None

    @property
    def id(self) -> str | int | None:
        """The row's own id, or None if it has none."""
        return id_of(self.row)

    @property
    def space(self) -> Space:
        """The row's answer space."""
        return self.task.question(self.row).space


def dataset_keys(row: Mapping[str, Any], task: Task | None) -> dict[str, Any]:
    """Return the values of the keys `task`, `split` and `setting`, which name the row's place in a data set.

    A key that is a field of the task is left out. `task`: the file's task, or None if each row names its own.
    """
    names = {field.name for field in task.fields} if task else set()
    if isinstance(row.get("input"), Mapping) or ("input" in row and "input" not in names):
        names = set()  # the fields are not at the top level
    return {key: row[key] for key in ("task", "split", "setting") if key in row and key not in names}


def task_of(row: Mapping[str, Any], tasks: Mapping[str, Task]) -> Task | str | None:
    """Return the task that a row names, or None if it names none. `tasks` has the chosen tasks by name.

    If the named task is not one of them, only its name is returned. Raises InputError if the name is not a text.
    """
    name = row.get("task")
    if name is None:
        return None
    if not isinstance(name, str):
        raise InputError(f"The row's task is {shown(name)}", step="give the task's name", field="task")
    if task := tasks.get(name.strip().lower().replace("-", "_")):
        return task
    try:
        task = get_task(_SPELT.get(name.strip().lower(), name))
    except EcellmError:  # an unknown task, or an invalid one of the user's
        return name
    return tasks.get(task.name, name)


def labelled(task: Task, line: int, row: Mapping[str, Any]) -> Labelled:
    """Return a row with its gold answer. Raises InputError for a missing or wrong field, or an impossible answer."""
    output = row.get("output")
    if not isinstance(output, str | list):
        what = "no output" if output is None else f"the output {shown(output)}"
        raise InputError(f"The row has {what}", step="put the right answer there, as text", field="output")
    id_of(row)
    question = task.question(row)
    gold = encodable(question.space.written(output))
    question.space.parse(gold)
    return Labelled(task, line, row, gold, question.space.read_labels(row.get("labels")))
