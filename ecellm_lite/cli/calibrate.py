"""`ecellm-lite calibrate`: fit a temperature to labelled rows, and keep it beside the model if it helps."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecellm_lite.cli.options import model_options
from ecellm_lite.cli.progress import job_progress, waiting
from ecellm_lite.cli.types import TasksType
from ecellm_lite.errors import InputError, ModelError, UsageError

if TYPE_CHECKING:
    from ecellm_lite.evaluate.calibrating import Found
    from ecellm_lite.evaluate.results import Unreadable
    from ecellm_lite.models.store import Store, StoredModel
    from ecellm_lite.tasks.task import Task

SHOWN = 10  # lines that could not be read


@click.command()
@click.option(
    "-t", "--task", "tasks", type=TasksType(), required=True, help="The task, the TOML file of your own, or all."
)
@click.option("-d", "--data", type=click.Path(path_type=Path), help="Labelled rows: a file, or a folder of them.")
@click.option("--limit", type=click.IntRange(1), help="At most so many rows a task, spread over the file.")
@click.option("--split", default="test", show_default=True, help="Of a folder, or of rows that name theirs.")
@click.option("--setting", help="Of rows that name theirs.  [default: IND_Diverse_Instruction]")
@click.option("--dry-run", is_flag=True, help="Say what would be kept, and keep nothing.")
@click.option("--remove", is_flag=True, help="Take the calibration away.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@model_options
def calibrate(
    tasks: list[Task],
    data: Path | None,
    limit: int | None,
    split: str,
    setting: str | None,
    dry_run: bool,
    remove: bool,
    as_json: bool,
    model: str | None,
    envelope: str | None,
    quiet: bool,
    **given: Any,
) -> None:
    """Make a model's probabilities mean what they say: of answers given 0.8, eight in ten should be right.

    Answers labelled rows, fits a temperature to them, and keeps it beside the model if rows that it was not fitted on
    become likelier; later runs take it by themselves. Take other rows than those that you measure the model with.

    \b
    ecellm-lite calibrate --task sentiment_analysis --data reviews.jsonl
    """  # noqa: D301 - click wants the character itself, so that the lines stay lines
    from ecellm_lite.demo.build import ensure_demo
    from ecellm_lite.models.calibrations import calibration_path
    from ecellm_lite.models.resolve import resolve
    from ecellm_lite.models.store import Store

    if remove == (data is not None):
        raise UsageError("Give either --data (labelled rows to fit to) or --remove.")
    store = Store()
    found = resolve(model, store, {"demo": ensure_demo}, envelope=envelope)
    if data is None:
        _remove(store, found, tasks, all_tasks=len(tasks) > 1)
        return
    listed: list[dict[str, Any]] = []

    def take(one: Found) -> None:
        """Keep and tell what came of a task, before the next is answered: that takes long, and can be broken off."""
        kept = None if dry_run else _keep(store, found, one)
        listed.append(one.as_dict() | {"kept": kept})
        if as_json:
            return
        click.echo("\n".join(_lines(one, kept, dry_run)))
        if one.refusal and calibration_path(store, found, one.scope.task).is_file():
            click.echo("  The calibration that is there already stays in use.")

    asked = {"limit": limit, "split": split, **({"setting": setting} if setting else {})}
    _fit(tasks, data, asked, {"model": model, "envelope": envelope, **given}, quiet, take)
    if as_json:
        named = {"name": found.manifest.name, "sha256": found.manifest.sha256}
        click.echo(json.dumps({"model": named, "tasks": listed}, indent=2))


def _fit(
    tasks: Sequence[Task],
    data: Path,
    asked: dict[str, Any],
    model: dict[str, Any],
    quiet: bool,
    take: Callable[[Found], None],
) -> None:
    """Fit each task and hand over what came of it as soon as it is there."""
    from ecellm_lite.cli.options import split_options
    from ecellm_lite.evaluate.calibrating import calibrate_task
    from ecellm_lite.evaluate.fitting import check_installed
    from ecellm_lite.evaluate.labelled_files import gather, labelled_files

    seed = split_options(model).get("seed", 0)
    check_installed()  # raises before a model has worked for minutes
    files = labelled_files(data, tasks, asked["split"])
    gathered = gather(files, tasks, **asked)
    hashed = {file.task and file.task.name: file.hashed for file in files}
    for unread in gathered.unreadable.values():
        _tell(unread)
    with waiting("loading the model", hidden=quiet):
        from ecellm_lite.runtime import Runtime

        runtime = Runtime(**model)
    calibrated = False
    with runtime:
        for task in (task for task in tasks if gathered.rows.get(task.name)):
            rows = gathered.rows[task.name]
            file = hashed[task.name if task.name in hashed else None]
            try:
                with job_progress(len(rows), hidden=quiet, name=task.name) as progress:
                    found = calibrate_task(runtime, task, rows, file, seed=seed, progress=progress)
            except InputError as error:
                if len(tasks) == 1:
                    raise
                click.echo(str(error), err=True)
            else:
                calibrated = True
                take(found)
    if not calibrated:
        raise InputError(f"{data} has no row to calibrate with: give labelled rows, each with its input and output.")


def _tell(unread: Sequence[Unreadable]) -> None:
    for line in unread[:SHOWN]:
        click.echo(f"Line {line.line} is left out: {line.message}", err=True)
    if len(unread) > SHOWN:
        click.echo(f"{len(unread) - SHOWN:,} more lines are left out.", err=True)


def _keep(store: Store, model: StoredModel, found: Found) -> str | None:
    """Write a calibration that deserves it; returns its path."""
    from ecellm_lite.models.calibrations import keep_calibration

    return str(keep_calibration(store, model, found.calibration)) if found.calibration else None


def _remove(store: Store, model: StoredModel, tasks: Sequence[Task], *, all_tasks: bool) -> None:
    from ecellm_lite.models.calibrations import calibration_folder, calibration_path

    folder = calibration_folder(store, model)
    # All are all that there are, those of a user's own tasks among them.
    paths = sorted(folder.glob("*.json")) if all_tasks else [calibration_path(store, model, tasks[0].name)]
    there = [path for path in paths if path.is_file()]
    if not there:
        which = "calibrations" if all_tasks else f"calibration of {tasks[0].name}"
        click.echo(f"{model.manifest.name} has no {which}.")
    for path in there:
        try:
            path.unlink()
        except OSError as error:
            raise ModelError(f"{path} cannot be removed ({error.strerror}): check its rights.") from None
        click.echo(f"The calibration of {path.stem} is removed.")


def _lines(found: Found, kept: str | None, dry_run: bool) -> list[str]:
    from ecellm_lite.models.calibrations import HIGHEST

    fit = found.fit
    left_out = {"without an answer": found.failed, "with another instruction": found.others}
    beside = "".join(f", {count:,} {what} left out" for what, count in left_out.items() if count)
    if fit is None:
        return [f"{found.scope.task}: not kept: {found.refusal}{beside}."]
    bias = f", bias {fit.bias:.3g}" if fit.bias else ""
    lines = [f"{found.scope.task}: temperature {fit.temperature:.3g}{bias}, fitted to {fit.rows:,} rows{beside}"]
    lines.append(f"  {'on rows held out':24}{'before':>9}{'after':>9}")
    for name, what in (("log_likelihood", "log-likelihood a row"), ("ece", "ECE"), ("brier", "Brier")):
        lines.append(f"  {what:24}{getattr(fit.before, name):9.3f}{getattr(fit.after, name):9.3f}")
    lines.append(f"  {'least coverage':24}{fit.least_coverage:9.3g}")
    if fit.temperature > 0.99 * HIGHEST:
        lines.append("  these probabilities say next to nothing: at so high a temperature all answers are alike")
    if found.refusal:
        lines.append(f"  not kept: {found.refusal}.")
    else:
        lines.append("  would be kept." if dry_run else f"  kept in {kept}")
    return lines
