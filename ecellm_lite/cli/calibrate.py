"""`ecellm-lite calibrate`: fits a temperature to labelled rows, and stores it if it improves the probabilities."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecellm_lite.cli.forms import Probability
from ecellm_lite.cli.options import adapter_option, model_options, split_options
from ecellm_lite.cli.table_options import labelled_options, read_labelled_options
from ecellm_lite.cli.types import TasksType
from ecellm_lite.errors import InputError, ModelError, UsageError

if TYPE_CHECKING:
    from ecellm_lite.evaluate.calibrating import LabelledTask
    from ecellm_lite.evaluate.labelled_files import LabelledRows
    from ecellm_lite.evaluate.results import Unreadable
    from ecellm_lite.models.calibrations import Calibration
    from ecellm_lite.models.store import StoredModel
    from ecellm_lite.tasks.task import Task

SHOWN = 10  # unreadable lines to name, at most


@click.command()
@click.option("-t", "--task", "tasks", type=TasksType(), help="A task, your own task's TOML file, or all.")
@click.option(
    "--question",
    "questions",
    type=click.Path(path_type=Path),
    help="Instead of a task: JSON Lines of questions with their right answers (docs/calibrate.md).",
)
@click.option(
    "-d", "--data", type=click.Path(path_type=Path), help="Labelled rows: a file, a table, or a folder of them."
)
@click.option("--limit", type=click.IntRange(1), help="At most this many rows per task, spread over the file.")
@click.option(
    "--split",
    default="test",
    show_default=True,
    help="The split to read, if the data is a folder or its rows name a split.",
)
@click.option(
    "--setting",
    default="IND_Diverse_Instruction",
    show_default=True,
    help="The setting to read, if the rows name a setting.",
)
@click.option(
    "--target-precision",
    type=Probability(0.5, 1, max_open=True),
    metavar="P",
    help="Also find the probability above which this share of answers is right, for `run --review-below auto`.",
)
@click.option(
    "--coverage-guarantee",
    type=Probability(0.5, 1, max_open=True),
    metavar="P",
    help="Also give each answer a set of plausible answers; this share of the sets contains the right one.",
)
@click.option(
    "--target-agreement",
    type=Probability(0.5, 1),
    metavar="P",
    help="With --model A,B: find when to ask B, so that this share of answers is B's (run --escalate-below).",
)
@click.option("--dry-run", is_flag=True, help="Show what would be stored, and store nothing.")
@click.option("--remove", is_flag=True, help="Remove the calibration.")
@click.option("--show-prompt", is_flag=True, help="Print the prompt of each question's first row, and stop.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@labelled_options
@adapter_option
@model_options
def calibrate(
    tasks: list[Task] | None,
    questions: Path | None,
    data: Path | None,
    limit: int | None,
    split: str,
    setting: str,
    target_precision: float | None,
    coverage_guarantee: float | None,
    target_agreement: float | None,
    dry_run: bool,
    remove: bool,
    show_prompt: bool,
    as_json: bool,
    model: str | None,
    envelope: str | None,
    quiet: bool,
    **settings: Any,
) -> None:
    """Make a model's probabilities reliable: of answers with probability 0.8, eight in ten should be right.

    Answers labelled rows and fits a temperature to them. If there are 200 rows or more, other methods are tried as
    well. The result is stored beside the model if it helps: on rows that it was not fitted to, the right answers must
    get clearly higher probabilities. Later runs use it automatically. Do not use the rows on which you measure the
    model.

    \b
    ecellm-lite calibrate --task sentiment_analysis --data reviews.jsonl
    ecellm-lite calibrate --task sentiment_analysis --data reviews.xlsx --map review=Body
    ecellm-lite calibrate --question labelled-questions.jsonl
    """  # noqa: D301 - click needs a real backspace character
    from ecellm_lite.cli.calibration_text import calibration_lines, existing_lines, removed_lines
    from ecellm_lite.cli.loading import find_model, load_runtime
    from ecellm_lite.models.adapters import find_adapters
    from ecellm_lite.models.calibration_files import calibration_path, keep_calibration, remove_calibrations

    labels = read_labelled_options(settings, quiet=quiet)
    if (tasks is None) == (questions is None):
        raise UsageError("Give either --task or --question.")
    if tasks and remove == (data is not None):
        raise UsageError("Give either --data (labelled rows to fit to) or --remove.")
    if questions and data:
        raise UsageError("--question names the file of the labelled rows: leave --data out.")
    if show_prompt:
        _show_prompts(questions, envelope, model)
        return
    if target_agreement is not None:
        from ecellm_lite.cli.calibrate_cascade import calibrate_cascade

        fitting = (settings["adapter"], target_precision, coverage_guarantee, dry_run or None)
        if not tasks or data is None or any(option is not None for option in fitting):
            raise UsageError("--target-agreement compares two models on labelled rows: give --task and --data alone.")
        loading = {"model": model, "envelope": envelope, **settings}
        split_options(loading)
        reading = {"split": split, "setting": setting, "limit": limit, "reading": labels}
        calibrate_cascade(tasks, data, loading, target_agreement, as_json=as_json, quiet=quiet, **reading)
        return
    store, stored = find_model(model, envelope)
    if remove:
        split_options(settings)
        files = find_adapters(settings.get("adapters"), store, stored)
        adapter = files[0].sha256 if files else None
        names = [task.name for task, *_ in _read_questions(questions)] if questions else _names(tasks or [])
        for name in names:
            _show_removed(stored, name, remove_calibrations(store, stored, name, adapter))
        return
    from ecellm_lite.cli.progress import rows_progress
    from ecellm_lite.evaluate.calibrating import calibrate_task, read_tasks

    if questions:
        labelled = _read_questions(questions)
    else:
        assert data
        labelled, rows_read = read_tasks(data, tasks or [], split=split, setting=setting, limit=limit, reading=labels)
        show_unread(rows_read)
    options: dict[str, Any] = {"model": model, "envelope": envelope, **settings}
    request = split_options(options)
    results: list[dict[str, Any]] = []
    with load_runtime(options, quiet=quiet) as runtime:
        for task, rows, file in labelled:
            try:
                with rows_progress(len(rows), hidden=quiet, name=task.name) as progress:
                    result = calibrate_task(
                        runtime,
                        task,
                        rows,
                        file,
                        seed=request.get("seed", 0),
                        adapter=request.get("adapter"),
                        target_precision=target_precision,
                        coverage_guarantee=coverage_guarantee,
                        progress=progress,
                    )
            except InputError as error:
                if len(labelled) == 1:
                    raise
                click.echo(str(error), err=True)
                continue
            # Stored at once, because the next task takes long and may be interrupted.
            calibration = None if dry_run else result.calibration
            place = calibration_path(store, stored, task.name, result.scope.adapter)
            before = _stored(place)
            path = str(keep_calibration(store, stored, calibration)) if calibration else None
            results.append(result.as_dict() | {"kept": path})
            if not as_json:
                if task.definition:
                    click.echo(task.definition["instructions"])
                click.echo("\n".join(calibration_lines(result, path)))
                if result.calibration is None:
                    click.echo("".join(existing_lines(result, place)), nl=False)
                elif calibration:
                    click.echo("".join(removed_lines(before, calibration)), nl=False)
    if not results:
        raise no_labelled_rows(questions or data)
    if as_json:
        identity = {"name": stored.manifest.name, "sha256": stored.manifest.sha256}
        click.echo(json.dumps({"model": identity, "tasks": results}, indent=2))


def _stored(path: Path) -> Calibration | None:
    """Return the stored calibration, or None if there is none or if it is damaged."""
    from ecellm_lite.models.calibrations import read_calibration

    try:
        return read_calibration(path)
    except ModelError:
        return None


def _names(tasks: Sequence[Task]) -> list[str | None]:
    """Return [the task's name] for a single task. For several tasks, return [None], which means all tasks."""
    return [tasks[0].name] if len(tasks) == 1 else [None]


def _read_questions(path: Path) -> list[LabelledTask]:
    """Return the questions of a file with their labelled rows, and show the lines that could not be read."""
    from ecellm_lite.evaluate.fitting import check_installed
    from ecellm_lite.serve.extras import check_extras

    check_installed()
    check_extras()  # a question has the form of a request to the server
    from ecellm_lite.serve.labelled_decisions import read_labelled_questions

    labelled, unreadable = read_labelled_questions(path)
    _show_unreadable(unreadable)
    return labelled


def _show_prompts(questions: Path | None, envelope: str | None, model: str | None) -> None:
    from ecellm_lite.cli.loading import envelope_of

    if questions is None:
        raise UsageError("--show-prompt shows the prompts of questions: give --question, or use `run --show-prompt`.")
    wrapping = envelope_of(model, envelope)
    for task, rows, _ in _read_questions(questions):
        question = task.question(rows[0].row)
        click.echo(wrapping.prompt(question.instruction, question.text, question.options) + "\n")


def no_labelled_rows(data: Path | None) -> InputError:
    """Return the error for a file or folder from which no row can be used."""
    return InputError(
        f"{data} has no row to calibrate with", step="give labelled rows, each with its input and its right answer"
    )


def show_unread(rows: LabelledRows) -> None:
    """Print the lines that could not be read, and how many rows of other tasks were left out."""
    _show_unreadable([line for lines in rows.unreadable.values() for line in lines])
    if rows.left_out:
        click.echo(rows.left_out, err=True)


def _show_unreadable(lines: Sequence[Unreadable]) -> None:
    """Print the first lines that could not be read, each with the reason, and how many more there are."""
    for line in lines[:SHOWN]:
        click.echo(f"Line {line.line} is left out: {line.message}", err=True)
    if len(lines) > SHOWN:
        click.echo(f"{len(lines) - SHOWN:,} more lines are left out.", err=True)


def _show_removed(model: StoredModel, task: str | None, removed: Sequence[str]) -> None:
    if not removed:
        which = f"calibration of {task}" if task else "calibrations"
        click.echo(f"{model.manifest.name} has no {which}.")
    for name in removed:
        click.echo(f"The calibration of {name} is removed.")
