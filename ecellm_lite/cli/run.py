"""`ecellm-lite run`: answers a row, or every row of a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
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
from ecellm_lite.cli.table_options import job_options, table_options
from ecellm_lite.cli.types import TaskType
from ecellm_lite.errors import UsageError

if TYPE_CHECKING:
    from ecellm_lite.answerer import RequestOptions
    from ecellm_lite.tasks.task import Task


@click.command()
@click.option(
    "-t",
    "--task",
    "tasks",
    type=TaskType(),
    required=True,
    multiple=True,
    help="A task, or your own task's TOML file. May be given several times with --rows.",
)
@click.option("-i", "--input", "value", help="One row: a JSON object, a file's path, or - for standard input.")
@click.option(
    "--rows",
    type=click.Path(path_type=Path, allow_dash=True),
    help="A table of rows, or - for standard input.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    help="The file for a job's answers, or - for standard output.",
)
@click.option("--instruction", help="An instruction in place of the task's own.")
@click.option("--schema", type=click.Path(path_type=Path), help="A JSON schema that the answer must have.")
@click.option("--grammar", type=click.Path(path_type=Path), help="A GBNF or Lark grammar that the answer must have.")
@click.option(
    "--max-tokens",
    type=click.IntRange(1, 1 << 16),
    help="The longest text answer, in tokens.  [default: 100; 512 with a schema]",
)
@click.option(
    "--temperature", type=click.FloatRange(0, 10), default=0.0, show_default=True, help="Above 0, text is sampled."
)
@click.option(
    "--prefix-files/--no-prefix-files",
    default=True,
    show_default=True,
    help="Keep processed instructions on disk for the next process.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where a table's rows are answered: here, or on a Ray cluster.",
)
@escalate_option
@click.option("--address", help="The Ray cluster's address.  [default: RAY_ADDRESS, else this machine]")
@click.option("--shorten", is_flag=True, help="Cut a row that is too long; the answer says what was cut.")
@click.option("--show-prompt", is_flag=True, help="Print the exact prompt and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON even on a terminal.")
@table_options
@certainty_options
@adapter_option
@model_options
def run(
    tasks: tuple[Task, ...],
    value: str | None,
    rows: Path | None,
    output: Path | None,
    instruction: str | None,
    schema: Path | None,
    grammar: Path | None,
    max_tokens: int | None,
    temperature: float,
    shorten: bool,
    show_prompt: bool,
    as_json: bool,
    quiet: bool,
    engine: str,
    escalate_below: float | None,
    address: str | None,
    preview: int | None,
    estimate: bool,
    corrections: Path | None,
    labelled: Path | None,
    **model: Any,
) -> None:
    """Answer one row (--input), or every row of a table (--rows).

    \b
    ecellm-lite run --task sentiment_analysis --input '{"review": "Works, but it is loud."}'
    ecellm-lite run --task sentiment_analysis --rows reviews.csv --map review=Body --output answers.csv
    ecellm-lite run --task sentiment_analysis --task ./routing.toml --rows reviews.csv --output answers.csv
    """  # noqa: D301 - click needs a real backspace character
    from ecellm_lite.cli.reading import read_row, read_space
    from ecellm_lite.jobs.output import standard_output

    if (value is None) == (rows is None):
        raise UsageError("Give either --input (one row) or --rows (a file of rows).")
    if output is not None and rows is None:
        raise UsageError("--output is where a job's answers go: give --rows with it, or redirect one answer with >.")
    task = tasks[0]
    if len(tasks) > 1:
        own: dict[str, Any] = {"input": value, "instruction": instruction, "schema": schema, "grammar": grammar}
        own |= {"max-tokens": max_tokens, "temperature": temperature or None}
        if name := next((name for name, setting in own.items() if setting is not None), None):
            raise UsageError(f"--{name} is for one task: give --task once, or leave --{name} out.")
    job = job_options(model)
    if job.report is not None and rows is None:
        raise UsageError("--report is a page about a table's job: give --rows.")
    if engine == "ray" and rows is None:
        raise UsageError("--engine ray answers a table: give --rows.")
    if address is not None and engine != "ray":
        raise UsageError("--address is a Ray cluster's: give --engine ray with it.")
    if escalate_below is not None and engine == "ray":
        raise UsageError("--escalate-below is for models on this machine: leave --engine ray out.")
    check_cascade(escalate_below, model)
    if preview is not None and rows is None:
        raise UsageError("--preview shows rows of a table: give --rows.")
    if estimate and rows is None:
        raise UsageError("--estimate needs a table's rows: give --rows.")
    if corrections is not None and (rows is None or output is None):
        raise UsageError("--corrections go into a job's output: give the job's own --rows and --output.")
    if labelled is not None and corrections is None:
        raise UsageError("--labelled is where corrected rows go: give --corrections.")
    if value is not None:
        standard_output()  # raises InputError if it is closed, before a model is loaded
    if show_prompt:
        if value is None:
            raise UsageError("--show-prompt shows one prompt: give --input.")
        if shorten:
            raise UsageError("--show-prompt loads no model, and --shorten needs its tokens: leave one of them out.")
        _show_prompt(task, read_row(value), instruction, model, escalate_below)
        return
    if rows is not None:
        from ecellm_lite.jobs.job_files import check_inputs

        forms = [path for path in (schema, grammar) if path]
        written = {"output": output, "report": job.report, "labelled": labelled}
        check_inputs(written, [*forms, *files_read(model, tasks)])
    space = read_space(task, schema, grammar, max_tokens, temperature)
    options = split_options(model) | {"instruction": instruction, "space": space, "shorten": shorten}
    if value is not None:
        _answer(task, read_row(value), options, model, escalate_below, as_json=as_json, quiet=quiet)
    else:
        from ecellm_lite.cli.loading import envelope_of
        from ecellm_lite.cli.table_job import TableJob

        assert rows is not None
        table = TableJob(
            tasks,
            rows,
            None if str(output) == "-" else output,
            job,
            quiet,
            escalate_below=escalate_below,
            cluster=engine == "ray",
            address=address,
        )
        if preview is not None:
            envelope = envelope_of(model["model"], model["envelope"], escalate_below)
            table.preview(envelope, preview, instruction)
        elif estimate:
            table.estimate(options, model)
        elif corrections is not None:
            table.correct(corrections, labelled, space)
        else:
            table.run(options, model)


def _show_prompt(
    task: Task,
    row: Mapping[str, Any],
    instruction: str | None,
    model: Mapping[str, Any],
    escalate_below: float | None,
) -> None:
    from ecellm_lite.cli.loading import envelope_of
    from ecellm_lite.jobs.output import standard_output

    envelope = envelope_of(model["model"], model["envelope"], escalate_below)
    question = task.question(row, instruction=instruction)
    prompt = envelope.prompt(question.instruction, question.text, question.options, question.examples)
    standard_output().write(prompt.encode("utf-8", "replace"))


def _answer(
    task: Task,
    row: Mapping[str, Any],
    options: RequestOptions,
    model: Mapping[str, Any],
    escalate_below: float | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    from ecellm_lite.cli.loading import load_answerer, warn

    question = task.question(row, instruction=options["instruction"])  # checked before a model is loaded
    with load_answerer(model, quiet=quiet, escalate_below=escalate_below) as runtime:
        if not quiet:
            warn(runtime, task, options)
        answer = runtime.answer(task, row, **options)
    if as_json or not sys.stdout.isatty():
        click.echo(json.dumps(answer.as_dict()))
    else:
        from ecellm_lite.cli.show import show_answer

        show_answer(answer, options.get("space") or question.space)
