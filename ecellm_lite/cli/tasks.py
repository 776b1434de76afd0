"""`ecellm-lite tasks`: lists the tasks, describes one, and adds and removes the user's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecellm_lite.cli.options import debug_option
from ecellm_lite.cli.plain import plain
from ecellm_lite.cli.types import TaskType
from ecellm_lite.errors import InputError

if TYPE_CHECKING:
    from ecellm_lite.tasks.task import Task


class _TasksGroup(click.Group):
    """A group that reads `tasks TASK` as `tasks list TASK`, and `tasks` alone as `tasks list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in [*self.commands, *ctx.help_option_names]:
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_TasksGroup)
def tasks() -> None:
    """List the tasks, describe one, and keep tasks of your own in the store.

    `ecellm-lite tasks` lists them, and `ecellm-lite tasks TASK` describes one.
    """


@tasks.command("list")
@click.argument("task", required=False, type=TaskType())
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@debug_option
def list_(task: Task | None, as_json: bool) -> None:
    """List the tasks.

    Your own tasks come last. With TASK (a name or a file), show its fields, answers and an example.
    """
    from ecellm_lite.tasks.description import describe
    from ecellm_lite.tasks.registry import CASLIE_TASKS, TASKS

    if task:
        _describe(task, as_json)
        return
    own, broken = _own()
    listed = [*TASKS.values(), *CASLIE_TASKS.values(), *own]
    if as_json:
        errors = [{"name": name, "error": message} for name, message in broken.items()]
        click.echo(json.dumps([*map(describe, listed), *errors], indent=2))
        return
    width = max(len(task.name) for task in listed)
    for task in listed:
        click.echo(f"{task.name:{width}}  {task.abbreviation or 'own':3}  {plain(task.summary)}")
    for name, problem in broken.items():
        click.echo(plain(" ".join(f"{name:{width}}  own  {problem}".splitlines())))


@tasks.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Replace a task of the same name.")
@debug_option
def add(file: Path, replace: bool) -> None:
    """Check a task's TOML file, and copy it into the store with the files that it names.

    From then on the task's name is enough: for the commands here, for `serve` and for `pipe`.
    """
    from ecellm_lite.provision.own_tasks import add_task

    task = add_task(file, replace=replace)
    click.echo(f"{task.name}: {task.source}")


@tasks.command()
@click.argument("name")
@debug_option
def remove(name: str) -> None:
    """Delete a task of your own from the store, with the files that no other task there needs.

    Its calibrations stay.
    """
    from ecellm_lite.provision.own_tasks import remove_task

    for path in remove_task(name):
        click.echo(f"{path} is removed.")


def _own() -> tuple[list[Task], dict[str, str]]:
    """Return the user's own tasks that can be read, and {name: error} for the tasks that cannot be read."""
    from ecellm_lite.tasks.registry import load_own, own_files

    own: list[Task] = []
    broken: dict[str, str] = {}
    for name, path in own_files().items():
        try:
            own.append(load_own(path))
        except InputError as error:
            broken[name] = str(error)
    return own, broken


def _describe(task: Task, as_json: bool) -> None:
    if as_json:
        from ecellm_lite.tasks.description import describe

        click.echo(json.dumps(describe(task), indent=2))
        return
    origin = f"own, {task.source}" if task.source else f"{task.abbreviation}, {task.hub_name}"
    lines = [f"{task.name} ({origin}): {task.summary}", "", f"Instruction: {task.instruction}", "", "Fields:"]
    for field in task.fields:
        optional = "" if field.required else "; optional"
        lines.append(f"  {field.name}: {field.doc} ({field.kind}{optional})")
    if task.examples:
        lines += ["", f"Worked examples: {task.examples.count}"]
    lines += ["", f"Answer: {task.answers}", "", "Example:", json.dumps(task.example(), indent=2, ensure_ascii=False)]
    click.echo(plain("\n".join(lines)))
