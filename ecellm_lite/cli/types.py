"""Types of option values that the shell can complete: tasks, models, calibrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from ecellm_lite.tasks.task import Task

ALL = "all"


class TaskType(click.ParamType):  # type: ignore[type-arg]
    """A task: its name, or the TOML file of a user's own task."""

    name = "task"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Task:
        """Return the task. For an unknown task, raises UsageError and suggests similar names."""
        from ecellm_lite.tasks.registry import get_task

        task: Task = get_task(value) if isinstance(value, str) else value
        return task

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the names of tasks, including the user's own tasks. For a path, let the shell complete it."""
        from ecellm_lite.tasks.registry import TASKS, own_files

        summaries = {name: task.summary for name, task in TASKS.items()}
        summaries.update(dict.fromkeys(own_files(), "Your own."))
        items = [CompletionItem(name, help=text) for name, text in summaries.items() if name.startswith(incomplete)]
        return items or [CompletionItem(incomplete, type="file")]


class TasksType(TaskType):
    """A task, or `all` for all ten tasks of eCeLLM."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a list of tasks: all ten for `all`, otherwise the named task."""
        from ecellm_lite.tasks.registry import TASKS

        if not isinstance(value, str):
            return value
        if value.strip().lower() == ALL:
            return list(TASKS.values())
        return [super().convert(value, param, ctx)]


class ModelType(click.ParamType):  # type: ignore[type-arg]
    """A model: a path, or a name that the shell completes from the store."""

    name = "model"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the names of stored models. For a path, let the shell complete it."""
        from ecellm_lite.models.catalogue import DEMO
        from ecellm_lite.models.store import Store

        names = dict.fromkeys([*Store().names(), DEMO])
        items = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return items or [CompletionItem(incomplete, type="file")]


class CalibrationType(click.ParamType):  # type: ignore[type-arg]
    """The value of --calibration: `auto`, `off` or a file. `off` becomes False."""

    name = "auto|off|FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return False for `off`. Return any other value unchanged: `auto`, or the path of a calibration's file."""
        return False if value == "off" else value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Let the shell complete a path."""
        return [CompletionItem(incomplete, type="file")]
