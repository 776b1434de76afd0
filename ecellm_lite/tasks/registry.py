"""The tasks by name: ECInstruct's ten, CASLIE's, and the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.home import home
from ecellm_lite.tasks import (
    answer_generation,
    answerability_prediction,
    attribute_value_extraction,
    category_classification,
    multiclass_product_classification,
    product_matching,
    product_relation_prediction,
    product_substitute_identification,
    query_product_ranking,
    sentiment_analysis,
    sequential_recommendation,
)
from ecellm_lite.tasks.custom import read_task
from ecellm_lite.tasks.task import Task

# In the order of the paper's tables.
TASKS: dict[str, Task] = {
    module.TASK.name: module.TASK
    for module in (
        attribute_value_extraction,
        product_relation_prediction,
        product_matching,
        sentiment_analysis,
        sequential_recommendation,
        multiclass_product_classification,
        product_substitute_identification,
        query_product_ranking,
        answerability_prediction,
        answer_generation,
    )
}


# CASLIE's tasks that ECInstruct does not have.
CASLIE_TASKS: dict[str, Task] = {category_classification.TASK.name: category_classification.TASK}

# Every name, hub name and abbreviation of these tasks, in lower case.
_NAMES: dict[str, Task] = {
    alias.lower().replace("-", "_"): task
    for task in (*TASKS.values(), *CASLIE_TASKS.values())
    for alias in (task.name, task.hub_name, task.abbreviation)
}


MOST_NAMED = 10  # own tasks to name in an error, at most


def get_task(name: str) -> Task:
    """Return a task by its name. Case does not matter.

    A built-in task is also found by its name in the data set (`Sentiment_Analysis`) or by its abbreviation (`SA`). A
    user's task is also found by the path of its file. Raises UsageError for an unknown task; the message suggests
    similar names. Raises InputError if the file of a user's task is invalid.
    """
    key = name.strip().lower().replace("-", "_")
    if key in _NAMES:
        return _NAMES[key]
    if name.endswith(".toml"):
        return load_task(Path(name))
    own = own_files()
    if key in own:
        return load_own(own[key])
    raise UsageError(f"There is no task {name[:80]!r}", step=_advice(key, list(own)), settings=("task",))


def _advice(key: str, own: Sequence[str]) -> str:
    """Return which tasks to use instead of the unknown task `key`: similar ones, and the user's own (`own`)."""
    possible = [*_NAMES, *own]
    begun = [name for name in possible if len(key) > 2 and name.startswith(key)]
    near = begun or get_close_matches(key, possible, n=3, cutoff=0.5)
    names = list(dict.fromkeys(_NAMES[match].name if match in _NAMES else match for match in near))[:3]
    built_in = [task.abbreviation for task in (*TASKS.values(), *CASLIE_TASKS.values())]
    tasks = " or ".join(names) if names else f"one of {', '.join(built_in)}"
    if others := [name for name in own if name not in names]:
        more = ", …" if len(others) > MOST_NAMED else ""
        return f"use {tasks}, or one of your own, {', '.join(others[:MOST_NAMED])}{more}"
    return f"use {tasks}" if names else f"use {tasks}, or add your own by `ecellm-lite tasks add FILE`"


def task_names() -> tuple[str, ...]:
    """Return the names of all tasks: the ten, CASLIE's, and the user's own."""
    known = (*TASKS, *CASLIE_TASKS)
    return (*known, *(name for name in own_files() if name not in known))


def load_task(path: str | Path) -> Task:
    """Return the task that a TOML file describes (see tasks/custom.py).

    Raises InputError if a key or value is wrong. The error names the file and the key.
    """
    return read_task(Path(path), reserved=_NAMES.keys())


def own_files() -> dict[str, Path]:
    """Return the files in the user's folder of tasks as {task name: path}, sorted by name. The files are not read.

    Raises InputError if the folder cannot be read.
    """
    folder = home() / "tasks"
    try:
        return {path.stem: path for path in sorted(folder.glob("[!.]*.toml"))}
    except OSError as error:
        message = f"The folder of your own tasks, {folder}, cannot be read ({error.strerror})"
        raise InputError(message, step="make it readable", file=str(folder)) from None


def load_own(path: Path) -> Task:
    """Return the task in one of the user's own task files.

    Raises InputError if the file is not named after the task (`TASK.toml`).
    """
    task = load_task(path)
    if task.name != path.stem:
        step = f"rename the task, or the file to {task.name}.toml"
        raise InputError(f"{path}: name is {task.name!r}", step=step, field="name", file=str(path))
    return task
