"""`ecellm-lite tasks`: the tasks there are, and what one of them wants."""

from __future__ import annotations

import json
from typing import Any

import click

from ecellm_lite.cli.options import TaskName, debug_option


@click.command()
@click.argument("task", required=False, type=TaskName())
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@debug_option
def tasks(task: str | None, as_json: bool) -> None:
    """List the tasks; with TASK its fields, its answers and an example."""
    from ecellm_lite.tasks.registry import TASKS, get_task

    chosen = [get_task(task)] if task else list(TASKS.values())
    if as_json:
        described = [_as_dict(one) for one in chosen]
        click.echo(json.dumps(described[0] if task else described, indent=2))
        return
    if not task:
        width = max(map(len, TASKS))
        for one in chosen:
            click.echo(f"{one.name:{width}}  {one.abbreviation:3}  {one.summary}")
        return
    one = chosen[0]
    click.echo(f"{one.name} ({one.abbreviation}, {one.hub_name}): {one.summary}\n")
    click.echo(f"Instruction: {one.instruction}\n\nFields:")
    for field in one.fields:
        optional = "" if field.required else "; optional"
        click.echo(f"  {field.name}: {field.doc} ({field.kind}{optional})")
    click.echo(f"\nAnswer: {one.answers}\n\nExample:")
    click.echo(json.dumps(one.example(), indent=2, ensure_ascii=False))


def _as_dict(task: Any) -> dict[str, Any]:
    return {
        "name": task.name,
        "abbreviation": task.abbreviation,
        "hub_name": task.hub_name,
        "summary": task.summary,
        "instruction": task.instruction,
        "fields": [
            {
                "name": field.name,
                "kind": field.kind,
                "required": field.required,
                "doc": field.doc,
                "example": field.example,
            }
            for field in task.fields
        ],
        "answers": task.answers,
        "example": task.example(),
    }
