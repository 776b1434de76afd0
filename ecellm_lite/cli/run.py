"""`ecellm-lite run`: answer a row, or every row of a file."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from ecellm_lite.cli.options import TaskName, certainty_options, model_options, split_options
from ecellm_lite.cli.plain import plain
from ecellm_lite.envelopes import get_envelope
from ecellm_lite.errors import InputError, JobError, UsageError

if TYPE_CHECKING:
    from io import BufferedReader

    from ecellm_lite.answerer import RequestOptions
    from ecellm_lite.answers.space import Space
    from ecellm_lite.runtime import Runtime
    from ecellm_lite.tasks.task import Task


@click.command()
@click.option("-t", "--task", type=TaskName(), required=True, help="The task, or the TOML file of your own.")
@click.option("-i", "--input", "given", help="One row: a JSON object, a file's path, or - for standard input.")
@click.option("--rows", type=click.Path(path_type=Path, allow_dash=True), help="A JSON Lines file of rows, or -.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, allow_dash=True), help="Where a job's answers go, or -."
)
@click.option("--instruction", help="An instruction in place of the task's own.")
@click.option("--schema", type=click.Path(path_type=Path), help="A JSON schema that the answer must have.")
@click.option("--grammar", type=click.Path(path_type=Path), help="A GBNF or Lark grammar that the answer must have.")
@click.option(
    "--max-tokens", type=click.IntRange(1, 1 << 16), help="The longest text answer.  [default: 100; 512 with a schema]"
)
@click.option(
    "--temperature", type=click.FloatRange(0, 10), default=0.0, show_default=True, help="Above 0, text is drawn."
)
@click.option(
    "--prefix-files/--no-prefix-files",
    default=True,
    show_default=True,
    help="Keep what was read of an instruction, so that the next process need not.",
)
@click.option("--shorten", is_flag=True, help="Cut a row that is too long; the answer says what was cut.")
@click.option("--show-prompt", is_flag=True, help="Print the exact prompt and stop.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, also on a terminal.")
@certainty_options
@model_options
def run(
    task: str,
    given: str | None,
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
    **model: Any,
) -> None:
    """Answer one row (--input), or every row of a file (--rows).

    \b
    ecellm-lite run --task sentiment_analysis --input '{"review": "Works, but it is loud."}'
    ecellm-lite run --task product_matching --rows pairs.jsonl --output answers.jsonl
    """  # noqa: D301 - click wants the character itself, so that the lines stay lines
    from ecellm_lite.tasks.registry import get_task

    known = get_task(task)
    if (given is None) == (rows is None):
        raise UsageError("Give either --input (one row) or --rows (a file of rows).")
    if output is not None and rows is None:
        raise UsageError("--output is where a job's answers go: give --rows with it, or send one answer on with >.")
    if show_prompt:
        if given is None:
            raise UsageError("--show-prompt shows one prompt: give --input.")
        if shorten:
            raise UsageError("--show-prompt loads no model, whose tokens --shorten counts: leave one of them out.")
        envelope = get_envelope(model["envelope"] or _envelope_of(model["model"]))
        question = known.question(_read_row(given), instruction=instruction)
        prompt = envelope.prompt(question.instruction, question.text, question.options)
        sys.stdout.buffer.write(prompt.encode("utf-8", "replace"))
        return
    space = _space(known, schema, grammar, max_tokens, temperature)
    asked = split_options(model) | {"instruction": instruction, "space": space, "shorten": shorten}
    if given is not None:
        row = _read_row(given)
        question = known.question(row, instruction=instruction)  # before a model is loaded for it
        with _runtime(model, known, quiet) as runtime:
            _tell(runtime, known, asked, quiet)
            answer = runtime.answer(known, row, **asked)
        if as_json or not sys.stdout.isatty():
            click.echo(json.dumps(answer.as_dict()))
        else:
            from ecellm_lite.cli.show import show_answer

            show_answer(answer, question)
        return
    assert rows is not None
    _job(known, rows, output or Path("-"), asked, model, quiet)


def _job(task: Task, rows: Path, output: Path, asked: RequestOptions, model: Mapping[str, Any], quiet: bool) -> None:
    from ecellm_lite.cli.progress import job_progress
    from ecellm_lite.jobs.runner import check_output, output_file, part_of, write_answers
    from ecellm_lite.tables.json_lines import check_form, read_rows

    if str(output) != "-":
        check_output(output)
    for written in (output, part_of(output)) if str(output) != "-" else ():
        if written.exists() and rows.exists() and written.samefile(rows):
            raise UsageError(f"--rows and --output are the same file, {rows}: take another --output.")
    with ExitStack() as stack:
        try:
            source = _input() if str(rows) == "-" else stack.enter_context(rows.open("rb"))
        except OSError as error:
            raise InputError(
                f"{rows} cannot be read ({error.strerror}): give a JSON Lines file, or - for standard input."
            ) from None
        check_form(source, "standard input" if str(rows) == "-" else str(rows))
        runtime = stack.enter_context(_runtime(model, task, quiet))
        _tell(runtime, task, asked, quiet)
        target = sys.stdout if str(output) == "-" else stack.enter_context(output_file(output))
        advance = stack.enter_context(job_progress(rows, hidden=quiet))
        started = time.perf_counter()
        tally = write_answers(runtime.answers(task, read_rows(source), **asked), target, advance)
    seconds = time.perf_counter() - started
    if not quiet:
        rate = tally.rows / seconds if seconds else 0.0
        counted = {"failed": tally.failed, "shortened": tally.shortened, "abstained": tally.abstained}
        counts = ", ".join(f"{count:,} {what}" for what, count in counted.items() if count or what == "failed")
        click.echo(f"{tally.rows:,} rows in {seconds:.1f} s ({rate:.1f} rows/s), {counts}.", err=True)
    if tally.failed:
        where = "standard output" if str(output) == "-" else str(output)
        raise JobError(f"{tally.failed:,} of {tally.rows:,} rows failed: their lines in {where} carry the error.")


def _input() -> BufferedReader:
    if not sys.stdin:
        raise InputError("Standard input is closed: give the rows as a file.")
    return cast("BufferedReader", sys.stdin.buffer)


def _runtime(model: Mapping[str, Any], task: Task, quiet: bool) -> Runtime:
    from ecellm_lite.cli.progress import waiting

    with waiting("loading the model", hidden=quiet):
        from ecellm_lite.runtime import Runtime

        runtime = Runtime(**model)
    if not quiet and runtime.placement and runtime.placement.loads:
        click.echo(f"{runtime.placement.description}.", err=True)
    if not quiet and runtime.intended_tasks and task.name not in runtime.intended_tasks:
        said = plain(", ".join(runtime.intended_tasks))
        click.echo(f"{runtime.model.name} is for {said}: do not count on its answers to {task.name}.", err=True)
    return runtime


def _tell(runtime: Runtime, task: Task, asked: RequestOptions, quiet: bool) -> None:
    """Say on standard error, once, why a calibration of this task is not used."""
    refusal = runtime.uncalibrated(task, instruction=asked["instruction"], calibration=asked["calibration"])
    if refusal and not quiet and asked["space"] is None:
        click.echo(refusal, err=True)


def _envelope_of(model: str | None) -> str:
    from ecellm_lite.demo.build import ENVELOPE
    from ecellm_lite.models.resolve import resolve_envelope
    from ecellm_lite.models.store import Store

    return resolve_envelope(model, Store(), ENVELOPE)


def _read_row(given: str) -> Mapping[str, Any]:
    if not given.strip():
        raise InputError('--input is empty: give an object such as \'{"review": "I like it"}\', or a file.')
    text = given if given.lstrip().startswith(("{", "[")) else _read_text(given, "--input")
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f'The row is not JSON ({error}): give an object such as \'{{"review": "I like it"}}\'; '
            "a file of many rows goes to --rows."
        ) from None
    if not isinstance(row, Mapping):
        raise InputError("The row is not an object: many rows go to --rows, in a file with one object a line.")
    return row


def _space(
    task: Task, schema: Path | None, grammar: Path | None, max_tokens: int | None, temperature: float
) -> Space | None:
    if schema is None and grammar is None and max_tokens is None and temperature == 0:
        return None
    if schema is not None and grammar is not None:
        raise UsageError("Give --schema or --grammar, not both.")
    from ecellm_lite.answers import structured

    if schema is None and grammar is None:
        if task.free_text is None:
            raise UsageError(
                f"--max-tokens and --temperature are for free text: {task.name} has answers of another form."
            )
        return replace(task.free_text, max_tokens=max_tokens or task.free_text.max_tokens, temperature=temperature)
    bounds: dict[str, Any] = {"max_tokens": max_tokens or structured.MAX_TOKENS, "temperature": temperature}
    if grammar is not None:
        return structured.grammar(_read_text(str(grammar), "--grammar"), **bounds)
    try:
        definition = json.loads(_read_text(str(schema), "--schema"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"The schema {schema} is not JSON ({error}).") from None
    if not isinstance(definition, Mapping):
        raise InputError(f"The schema {schema} is {type(definition).__name__}, not an object.")
    return structured.schema(definition, **bounds)


def _read_text(path: str, option: str) -> str:
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"The file {path} given to {option} is not UTF-8 ({error.reason}): write it as UTF-8."
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path[:80]!r} given to {option} is no file that can be read ({reason}).") from None
