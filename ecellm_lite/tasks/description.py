"""Describes a task as plain data, for programs that show the task or build an input form for its rows."""

from __future__ import annotations

from typing import Any

from ecellm_lite.tasks.task import Task


def describe(task: Task) -> dict[str, Any]:
    """Return a task's names, instruction, fields, answers, worked examples (if it has any) and an example of a row."""
    return {
        "name": task.name,
        "abbreviation": task.abbreviation or None,
        "hub_name": task.hub_name or None,
        "file": str(task.source) if task.source else None,
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
        **({"examples": task.examples.description} if task.examples else {}),
        "example": task.example(),
    }
