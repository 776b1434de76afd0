"""The command `calibrate --target-agreement`: finds out when a cascade should ask its second model.

Both models answer labelled rows. The result is a threshold for the first model's probability. The second model should
be asked below this threshold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecellm_lite.answers.answer import Answer
from ecellm_lite.cli.calibrate import no_labelled_rows, show_unread
from ecellm_lite.cli.loading import load_one_of_several
from ecellm_lite.cli.progress import rows_progress
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.evaluate.calibrating import read_tasks
from ecellm_lite.evaluate.cascading import CascadeResult, cascade_result, compared_rows

if TYPE_CHECKING:
    from ecellm_lite.tasks.task import Task

# How many points of the curve are shown on a terminal.
SHOWN = 9


def calibrate_cascade(
    tasks: list[Task],
    data: Path,
    model: Mapping[str, Any],
    agreement: float,
    *,
    as_json: bool,
    quiet: bool,
    **reading: Any,
) -> None:
    """Show a threshold for each task.

    A cascade should ask its last model if the first model's probability is below the threshold.

    `agreement`: the share of the cascade's answers, 0 to 1, that must equal the last model's answers.

    Raises InputError if there are too few rows, or if the task's answers have no probability. Raises UsageError unless
    two models are named.
    """
    names = [name.strip() for name in (model["model"] or "").split(",")]
    if len(names) != 2 or not all(names):
        raise UsageError("--target-agreement compares two models, the cheaper one first: give --model demo,eCeLLM-M.")
    first, last = names
    labelled, rows_read = read_tasks(data, tasks, **reading)
    show_unread(rows_read)
    if not labelled:
        raise no_labelled_rows(data)
    answers: dict[str, list[list[Answer]]] = {}
    for name in (first, last):
        with load_one_of_several(model, name, quiet=quiet) as runtime:
            for task, rows, _ in labelled:
                with rows_progress(len(rows), hidden=quiet, name=f"{task.name} by {name}") as progress:
                    task_answers = []
                    for answer in runtime.answers(task, (row.row for row in rows)):
                        progress(answer)
                        task_answers.append(answer)
                answers.setdefault(task.name, []).append(task_answers)
    results: dict[str, Any] = {}
    for task, rows, _ in labelled:
        try:
            result = cascade_result(compared_rows(rows, *answers[task.name]), agreement)
        except InputError as error:
            if len(labelled) == 1:
                raise
            click.echo(f"{task.name}: {error}", err=True)
            continue
        results[task.name] = result.as_dict()
        if not as_json:
            click.echo("\n".join(_lines(task.name, first, last, len(rows), result)))
    if not results:
        raise no_labelled_rows(data)
    if as_json:
        click.echo(json.dumps({"models": [first, last], "agreement": agreement, "tasks": results}, indent=2))


def _lines(task: str, first: str, last: str, count: int, result: CascadeResult) -> list[str]:
    chosen = result.chosen
    left_out = f", {count - result.rows:,} without an answer left out" if count > result.rows else ""
    points = result.curve[:: max(1, len(result.curve) // SHOWN)]
    return [
        f"{task}: {result.rows:,} rows{left_out}",
        f"  {first} alone is right in {result.first_accuracy:.1%}, {last} in {result.last_accuracy:.1%}",
        "  escalate below   rows to the last model   agreement   right",
        *(
            f"  {point.escalate_below:>14}   {point.escalated:>22.1%}"
            f"   {point.agreement:>9.1%}   {point.accuracy:>5.1%}"
            for point in points
        ),
        f"  Use --escalate-below {chosen.escalate_below}: {chosen.escalated:.1%} of the rows go to {last}, and"
        f" {chosen.agreement:.1%} of the answers are its own ({result.held_out:.1%} on held-out rows).",
    ]
