"""`ecellm-lite tasks`: lists the tasks, or describes one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ecellm_lite.cli.options import debug_option
from ecellm_lite.cli.plain import plain
from ecellm_lite.cli.types import TaskType
from ecellm_lite.errors import InputError

if TYPE_CHECKING:
    from ecellm_lite.tasks.task import Task


@click.command()
@click.argument("task", required=False, type=TaskType())
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@debug_option
def tasks(task: Task | None, as_json: bool) -> None:
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
