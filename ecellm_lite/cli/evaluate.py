"""`ecellm-lite eval`: measures a model's answers on labelled rows, and compares two evaluations."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecellm_lite.cli.options import (
    adapter_option,
    certainty_options,
    check_cascade,
    escalate_option,
    files_read,
    model_options,
    split_options,
)
from ecellm_lite.cli.table_options import labelled_options, read_labelled_options
from ecellm_lite.cli.types import TasksType
from ecellm_lite.errors import JobError, UsageError

if TYPE_CHECKING:
    from ecellm_lite.cascade import Cascade
    from ecellm_lite.evaluate.results import Results
    from ecellm_lite.runtime import Runtime
    from ecellm_lite.tasks.task import Task


@click.command("eval")
@click.option("-t", "--task", "tasks", type=TasksType(), help="A task, your own task's TOML file, or all.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Labelled rows: a file, a table, or a folder of TASK/SPLIT.jsonl."
)
@click.option("--split", default="test", show_default=True, help="Which split of a folder or of dataset.json.")
@click.option("--setting", default="IND_Diverse_Instruction", show_default=True, help="Which setting of dataset.json.")
@click.option("--limit", type=click.IntRange(1), help="At most this many rows per task, spread evenly.")
@click.option(
    "--instruction", help="An instruction in place of the task's own; the rows of dataset.json have their own."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write all results here, as JSON.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the results here as an HTML page.")
@click.option(
    "--compare",
    type=click.Path(path_type=Path),
    nargs=2,
    metavar="A.json B.json",
    help="Show what changed from one file of --output to another, and stop.",
)
@escalate_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@labelled_options
@certainty_options
@adapter_option
@model_options
def evaluate(
    tasks: list[Task] | None,
    data: Path | None,
    split: str,
    setting: str,
    limit: int | None,
    instruction: str | None,
    output: Path | None,
    report: Path | None,
    compare: tuple[Path, Path] | None,
    escalate_below: float | None,
    as_json: bool,
    quiet: bool,
    **model: Any,
) -> None:
    """Answer labelled rows, measure the answers as the paper does, and compare them with its figures.

    \b
    ecellm-lite eval --task all --data ROWS/ --report report.html
    ecellm-lite eval --task SA --data reviews.xlsx --map review=Body --answer-column Mood
    ecellm-lite eval --task AVE --data dataset.json --setting OOD_Diverse_Instruction --limit 500
    ecellm-lite eval --compare before.json after.json
    """  # noqa: D301 - click needs a real backspace character
    reading = read_labelled_options(model, quiet=quiet)
    if compare:
        if data or tasks or output or report:
            raise UsageError("--compare reads two files of results and runs nothing: leave the other options out.")
        _compare(*compare, as_json=as_json)
        return
    if tasks is None or data is None:
        raise UsageError("Give --task (or all) and --data, or --compare with two files of results.")
    if instruction and len(tasks) > 1:
        raise UsageError("--instruction replaces one task's own: give that task with --task, and not all.")
    check_cascade(escalate_below, model)
    from ecellm_lite.cli.loading import load_cascade, load_runtime, warn_of_pace
    from ecellm_lite.cli.progress import rows_progress
    from ecellm_lite.evaluate.outputs import Outputs
    from ecellm_lite.evaluate.run import prepare_evaluation
    from ecellm_lite.jobs.job_files import check_inputs

    check_inputs({"output": output, "report": report}, files_read(model, tasks))
    outputs = Outputs(output, report)
    evaluation = prepare_evaluation(
        data, tasks, split=split, setting=setting, limit=limit, outputs=outputs, reading=reading
    )
    if evaluation.rows.left_out:
        _warn(evaluation.rows.left_out, quiet=quiet)
    options = split_options(model) | {"instruction": instruction}
    try:
        loaded: Runtime | Cascade
        if escalate_below is None:
            loaded = load_runtime(model, quiet=quiet)
        else:
            loaded = load_cascade(model, escalate_below, quiet=quiet)
        if not quiet:
            warn_of_pace(loaded)
        with loaded as answerer, rows_progress(evaluation.count, hidden=quiet) as progress:
            results = evaluation.run(
                answerer, progress=progress, keep=outputs.keep, warn=partial(_warn, quiet=quiet), **options
            )
    except BaseException:
        if outputs.partial:
            click.echo(f"ecellm-lite: The finished tasks are in {outputs.partial}.", err=True)
        raise
    try:
        outputs.write(results)
    finally:  # shown first: they took hours, and the disk may be full
        _show(results, as_json=as_json)
    if results.failures:
        raise JobError(
            f"{results.failures:,} rows failed or could not be read; --json and --output list them with the reasons "
            f"({_first_failure(results)})."
        )


def _warn(sentence: str, *, quiet: bool) -> None:
    if not quiet:
        click.echo(sentence, err=True)


def _show(results: Results, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(results.as_dict()))
        return
    from ecellm_lite.cli.measured import show_results

    show_results(results)


def _compare(before: Path, after: Path, *, as_json: bool) -> None:
    from ecellm_lite.evaluate.comparison import compare
    from ecellm_lite.evaluate.results import read_results

    comparison = compare(read_results(before), read_results(after))
    if as_json:
        click.echo(json.dumps(comparison.as_dict()))
    else:
        from ecellm_lite.cli.measured import show_comparison

        show_comparison(comparison)


def _first_failure(results: Results) -> str:
    """Return where and why the first row failed, for a message."""
    failures = [(line.line, line.message) for line in results.unreadable]
    for task in results.tasks.values():
        failures += [(line.line, line.message) for line in task.unreadable]
        failures += [(record.line, record.error.message) for record in task.records if record.error]
        if failures:
            break
    line, message = failures[0]
    return f"the first, in line {line}: {message.rstrip('.')}"
