"""The tasks by name: ECInstruct's ten, CASLIE's, and the user's own."""

from __future__ import annotations

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
    near = get_close_matches(key, [*_NAMES, *own], n=3, cutoff=0.5)
    names = dict.fromkeys(_NAMES[match].name if match in _NAMES else match for match in near)
    step = f"use {' or '.join(names)}" if names else f"use one of {', '.join([*TASKS, *own][:20])}"
    step += ", or add your own by `ecellm-lite tasks add FILE`"
    raise UsageError(f"There is no task {name[:80]!r}", step=step, settings=("task",))


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
