"""`ecellm-lite eval`: how good a model's answers are on labelled rows, and what changed since last time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecellm_lite.cli.options import certainty_options, model_options
from ecellm_lite.cli.types import TasksType
from ecellm_lite.errors import InputError, JobError, UsageError

if TYPE_CHECKING:
    from ecellm_lite.answerer import RequestOptions
    from ecellm_lite.evaluate.labelled import Labelled
    from ecellm_lite.evaluate.labelled_files import Rows
    from ecellm_lite.evaluate.results import DataFile, Results, TaskResult, Unreadable
    from ecellm_lite.runtime import Runtime
    from ecellm_lite.tasks.task import Task


@click.command("eval")
@click.option("-t", "--task", "tasks", type=TasksType(), help="The task, or all that there are rows of.")
@click.option("--data", type=click.Path(path_type=Path), help="Labelled rows: a file, or a folder of TASK/SPLIT.jsonl.")
@click.option("--split", default="test", show_default=True, help="Which split, of a folder or of dataset.json.")
@click.option("--setting", default="IND_Diverse_Instruction", show_default=True, help="Which setting, of dataset.json.")
@click.option("--limit", type=click.IntRange(1), help="At most so many rows a task, spread evenly.")
@click.option("--instruction", help="An instruction in place of the task's own; dataset.json's rows bring theirs.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where all results go, as JSON.")
@click.option("--report", type=click.Path(path_type=Path), help="Where a page for a browser goes.")
@click.option(
    "--compare",
    type=click.Path(path_type=Path),
    nargs=2,
    metavar="A.json B.json",
    help="Say what changed from one --output to another, and stop.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@certainty_options
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
    as_json: bool,
    quiet: bool,
    **model: Any,
) -> None:
    """Answer labelled rows, and measure the answers as the paper does, beside the paper's figures.

    \b
    ecellm-lite eval --task all --data ROWS/ --report report.html
    ecellm-lite eval --task AVE --data dataset.json --setting OOD_Diverse_Instruction --limit 500
    ecellm-lite eval --compare before.json after.json
    """  # noqa: D301 - click wants the character itself, so that the lines stay lines
    if compare:
        if data or tasks or output or report:
            raise UsageError("--compare reads two files of results and runs nothing: leave the other options out.")
        _compare(*compare, as_json)
        return
    if tasks is None or data is None:
        raise UsageError("Give --task (or all) and --data, or --compare with two files of results.")
    if instruction and len(tasks) > 1:
        raise UsageError("--instruction takes the place of one task's: give that task with --task, and not all.")
    from ecellm_lite.evaluate.labelled_files import gather, labelled_files
    from ecellm_lite.evaluate.metrics.kinds import check_measurable
    from ecellm_lite.jobs.output import part_of

    if len(tasks) == 1:
        check_measurable(tasks[0])
    if report:
        from ecellm_lite.evaluate.report import page

        page.check()
    files = labelled_files(data, tasks, split)
    _check_outputs(output, report, [file.path for file in files])
    rows = gather(files, tasks, split=split, setting=setting, limit=limit)
    for one in tasks:
        if one.name in rows.rows:
            check_measurable(one)
    asked = {"limit": limit, "split": split, "setting": setting, "instruction": instruction}
    hashed = [file.hashed for file in files]  # now, for a file that is gone afterwards must not take hours of answers
    part = part_of(output) if output and _replaced(output) else None
    with _kept(part) as keep:
        found = _measure(rows, hashed, asked, model, quiet, keep)
    try:
        if output:
            _write(output, json.dumps(found.as_dict()))
        if part:
            part.unlink(missing_ok=True)
        if report:
            _write(report, page.page(found))
    finally:  # a full disk must not take what took hours
        _show(found, as_json)
    if found.failures:
        raise JobError(
            f"{found.failures:,} rows failed or could not be read: --json and --output say which, and why "
            f"({_first_failure(found)})."
        )


@contextmanager
def _kept(part: Path | None) -> Iterator[Callable[[Results], None]]:
    """Give what keeps the results so far in a file; if no more come, it is said where these are."""
    kept = False

    def keep(found: Results) -> None:
        nonlocal kept
        if part:
            with suppress(InputError):  # a disk that is full now may have room in the end
                _write(part, json.dumps(found.as_dict()))
                kept = True

    try:
        yield keep
    except BaseException:
        if kept:
            click.echo(f"ecellm-lite: The tasks that were finished stand in {part}.", err=True)
        raise


def _show(found: Results, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found.as_dict()))
        return
    from ecellm_lite.cli.measured import show_results

    show_results(found)


def _measure(
    rows: Rows,
    hashed: Sequence[DataFile],
    asked: Mapping[str, Any],
    model: dict[str, Any],
    quiet: bool,
    keep: Callable[[Results], None],
) -> Results:
    """Return what all tasks came to; those that are finished are given to `keep` before the next begins."""
    from ecellm_lite.cli.options import split_options
    from ecellm_lite.cli.progress import waiting
    from ecellm_lite.evaluate.evaluation import results
    from ecellm_lite.evaluate.results import Settings

    options = split_options(model) | {"instruction": asked["instruction"]}
    calibration = options.get("calibration", "auto")
    with waiting("loading the model", hidden=quiet):
        from ecellm_lite.runtime import Runtime

        runtime = Runtime(**model)
    with runtime:
        started = time.perf_counter()
        tasks: dict[str, TaskResult] = {}
        told = set()
        for name in rows.rows:  # a calibration named for another task raises before anything is answered
            refusal = runtime.uncalibrated(name, instruction=asked["instruction"], calibration=calibration)
            if refusal:
                told.add(name)
                _warn(refusal, quiet)

        def so_far() -> Results:
            return results(
                runtime.model,
                runtime.envelope.name,
                data=hashed,
                settings=Settings(
                    deterministic=runtime.deterministic, min_probability=options.get("min_probability"), **asked
                ),
                seconds=time.perf_counter() - started,
                unreadable=rows.unreadable.get(None, []),
                tasks=dict(tasks),
            )

        for name in dict.fromkeys([*rows.rows, *(name for name in rows.unreadable if name)]):
            if tasks:
                keep(so_far())
            unreadable = rows.unreadable.get(name, [])
            tasks[name] = _measure_task(runtime, name, rows.rows.get(name, []), unreadable, options, quiet)
            if (said := tasks[name].without_calibration) and name not in told:
                _warn(f"{tasks[name].abbreviation}: {said}", quiet)
        return so_far()


def _measure_task(
    runtime: Runtime,
    name: str,
    rows: list[Labelled],
    unreadable: list[Unreadable],
    options: RequestOptions,
    quiet: bool,
) -> TaskResult:
    """Return what a task's rows came to."""
    from ecellm_lite.cli.progress import job_progress
    from ecellm_lite.evaluate.evaluation import evaluate as evaluate_answers
    from ecellm_lite.evaluate.evaluation import no_rows
    from ecellm_lite.tasks.registry import get_task

    task, instruction = get_task(name), options.get("instruction")
    if not rows:
        return no_rows(task, unreadable)
    answers = []
    started = time.perf_counter()
    with job_progress(len(rows), hidden=quiet, name=task.abbreviation) as advance:
        for answer in runtime.answers(task, (row.row for row in rows), **options):
            answers.append(answer)
            advance(answer)
    seconds = time.perf_counter() - started
    return evaluate_answers(
        task,
        rows,
        answers,
        seconds=seconds,
        prompt=lambda row: runtime.prompt(task, row.row, instruction=instruction),
        refusal=lambda row: runtime.uncalibrated(
            task, row.row, instruction=instruction, calibration=options.get("calibration", "auto")
        ),
        unreadable=unreadable,
    )


def _warn(sentence: str, quiet: bool) -> None:
    if not quiet:
        click.echo(sentence, err=True)


def _compare(before: Path, after: Path, as_json: bool) -> None:
    from ecellm_lite.evaluate.comparison import compare
    from ecellm_lite.evaluate.results import read_results

    found = compare(read_results(before), read_results(after))
    if as_json:
        click.echo(json.dumps(found.as_dict()))
    else:
        from ecellm_lite.cli.measured import show_comparison

        show_comparison(found)


def _first_failure(found: Results) -> str:
    """Return the first line that went wrong, in words."""
    failures = [(line.line, line.message) for line in found.unreadable]
    for task in found.tasks.values():
        failures += [(line.line, line.message) for line in task.unreadable]
        failures += [(record.line, record.error.message) for record in task.records if record.error]
        if failures:
            break
    line, message = failures[0]
    return f"the first, in line {line}: {message.rstrip('.')}"


def _check_outputs(output: Path | None, report: Path | None, rows: Sequence[Path]) -> None:
    """Raise InputError or UsageError where the results could not be written in the end, or not without a loss."""
    from ecellm_lite.jobs.output import check_output, part_of

    written = {option: path for option, path in (("output", output), ("report", report)) if path}
    for option, path in written.items():
        check_output(path, option)
        folder = path.resolve().parent
        if _replaced(path) and not os.access(folder, os.W_OK):
            raise InputError(f"{path} cannot be written, for nothing may be made in {folder}: take another place.")
        if any(_same(place, file) for place in (path, part_of(path)) for file in rows):
            raise UsageError(f"--{option} and --data are the same file, {path}: take another --{option}.")
    if output and report and _same(output, report):
        raise UsageError(f"--output and --report are the same file, {output}: take another --report.")


def _same(one: Path, other: Path) -> bool:
    """Return whether two paths are one regular file, there or not yet."""
    if not (_replaced(one) and _replaced(other)):
        return False
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))


def _replaced(path: Path) -> bool:
    """Return whether a file is written there; a device or a pipe has no content to keep."""
    return path.is_file() or not path.exists()


def _write(path: Path, text: str) -> None:
    """Write a file, whole or not at all: an older one stays where there is no room; a device is written straight."""
    from ecellm_lite.models.files import replacing

    try:
        if not _replaced(path):
            path.write_text(text, "utf-8")
            return
        path = path.resolve()  # a link stays a link
        with replacing(path) as temporary:
            temporary.write_text(text, "utf-8")
            if path.exists():
                temporary.chmod(path.stat().st_mode & 0o777)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): make room, or take another place.") from None
