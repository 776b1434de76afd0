"""`ecellm-lite train`: trains an adapter on labelled rows, in two steps.

`lessons` turns the rows into tokens with llama.cpp; `learn` trains on these tokens with torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ecellm_lite.cli.options import debug_option
from ecellm_lite.cli.table_options import labelled_options, read_labelled_options
from ecellm_lite.envelopes import ENVELOPES, get_envelope
from ecellm_lite.errors import UsageError

if TYPE_CHECKING:
    from random import Random

    from ecellm_lite.tables.labelled_table import LabelledOptions
    from ecellm_lite.training.curriculum import Curriculum, Layout
    from ecellm_lite.training.rows import Row, Rows

MOST_HELD_OUT = 250  # as in training.rows, whose import would make `--help` slow

Command = TypeVar("Command", bound=Callable[..., Any])


class Most(click.ParamType):  # type: ignore[type-arg]
    """A limit on the number of rows, for every task (N) or for one task (TASK=N)."""

    name = "[TASK=]N"
    rows = click.IntRange(1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str | None, int]:
        """Parse `TASK=N` to (task name, N), and `N` to (None, N)."""
        from ecellm_lite.tasks.registry import get_task

        task, _, rows = value.rpartition("=")
        try:
            return get_task(task).name if task else None, self.rows.convert(rows, param, ctx)
        except UsageError as error:
            self.fail(str(error), param, ctx)


@click.group()
def train() -> None:
    """Train an adapter on labelled rows. Its base model is the demo's base or another small Llama model.

    \b
    ecellm-lite train lessons --data rows --passes 2 --held-out held-out -o lessons.npz
    ecellm-lite train learn lessons.npz -o trained

    The result is trained/adapter, a PEFT folder that `ecellm-lite convert --lora` takes.
    """  # noqa: D301 - click needs a real backspace character


model_option = click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A GGUF file.  [default: the demo's base]",
)


def lesson_options(command: Command) -> Command:
    """Add the options of a command that makes lessons (tokens to train on)."""
    for option in reversed(
        [
            click.option(
                "--data",
                type=click.Path(path_type=Path, exists=True, file_okay=False),
                multiple=True,
                required=True,
                help='A folder of TASK/train.jsonl, one {"input", "output"} per line, or of tables such as '
                "TASK/train.xlsx. May be given several times.",
            ),
            model_option,
            click.option("--envelope", type=click.Choice(list(ENVELOPES)), default="alpaca", show_default=True),
            click.option("--passes", type=click.IntRange(1, 100), default=6, show_default=True),
            click.option("--seed", type=int, default=7, show_default=True),
            click.option(
                "--most",
                type=Most(),
                multiple=True,
                help="At most N rows of each task, drawn anew in each pass; TASK=N for one task.  [default: all]",
            ),
            click.option(
                "--leave-out",
                multiple=True,
                metavar="SOURCE",
                help='Do not train on rows with this "source", but validate on them.',
            ),
            click.option(
                "--most-held-out",
                type=click.IntRange(1),
                default=MOST_HELD_OUT,
                show_default=True,
                help="At most this many held-out rows of a task, and of its left-out sources.",
            ),
            click.option(
                "--held-out",
                type=click.Path(path_type=Path, file_okay=False),
                help="Write the held-out rows here, as TASK/test.jsonl, for example for `calibrate`.",
            ),
            click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True),
        ]
    ):
        command = option(command)
    return debug_option(command)


@train.command()
@lesson_options
@labelled_options
@click.option(
    "--hard",
    type=Most(),
    multiple=True,
    help="Make this many hard cases by rule in each pass, for tasks that have such rules; TASK=N for one task.",
)
def lessons(most: Sequence[tuple[str | None, int]], hard: Sequence[tuple[str | None, int]], **options: Any) -> None:
    """Turn labelled rows into tokens, with a tenth held out for validation."""
    from ecellm_lite.training.curriculum import Layout
    from ecellm_lite.training.hard_cases import MAKERS

    reading = read_labelled_options(options, quiet=False)
    counts = limits(hard)
    for task, _ in hard:
        if task and task not in MAKERS:
            raise UsageError(f"No rule makes hard cases of {task}", step=f"use one of {', '.join(MAKERS)}")
    made = {task: (partial(_hard_rows, task), counts[task]) for task in MAKERS if task in counts}
    named = {task for task, _ in (*most, *hard) if task}
    write_lessons(Layout(most=limits(most), made=made), named, reading=reading, **options)


def _hard_rows(task: str, rows: Rows, count: int, random: Random) -> list[Row]:
    from ecellm_lite.training.hard_cases import hard_rows

    return hard_rows(task, count, random)


def write_lessons(
    layout: Layout,
    named: Collection[str] = (),
    *,
    data: Sequence[Path],
    model: Path | None,
    envelope: str,
    passes: int,
    seed: int,
    leave_out: Sequence[str],
    most_held_out: int,
    held_out: Path | None,
    output: Path,
    reading: LabelledOptions | None = None,
) -> None:
    """Make lessons (tokens to train on) from labelled rows, and write them to `output`.

    `layout`: which lessons are made in each pass over the rows.
    `reading`: how a table of labelled rows is read.
    `named`: tasks that the user named, so they must have rows.
    """
    from ecellm_lite.jobs.job_files import check_inputs
    from ecellm_lite.tables.labelled_table import FORMS
    from ecellm_lite.training.curriculum import read_curriculum

    rows = [path for folder in data for path in folder.glob("*/*") if path.suffix in FORMS]
    check_inputs({"output": output}, [*rows, model] if model else rows)
    for folder in (output.parent, held_out):
        if folder:
            make_folder(folder)
    curriculum = read_curriculum(
        data,
        model or base(),
        get_envelope(envelope),
        passes=passes,
        seed=seed,
        layout=layout,
        named=named,
        sources=leave_out,
        most_held_out=most_held_out,
        reading=reading,
    )
    curriculum.write(output, held_out)
    click.echo(summary(curriculum), err=True)


@train.command()
@click.argument("lessons", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@model_option
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--rank", type=click.IntRange(1, 256), default=16, show_default=True)
@click.option("--alpha", type=click.IntRange(1), default=16, show_default=True)
@click.option("--dropout", type=click.FloatRange(0, 0.9), default=0.0, show_default=True)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=1e-3,
    show_default=True,
    help="The highest learning rate.",
)
@click.option("--rows", type=click.IntRange(1), default=32, show_default=True, help="Rows per step.")
@click.option(
    "--tokens",
    type=click.IntRange(1),
    default=8192,
    show_default=True,
    help="Tokens computed at a time; fewer need less memory.",
)
@click.option("--bfloat16", is_flag=True, help="Compute in 16 bits: for a GPU, or a CPU with AMX.")
@click.option(
    "--length-penalty",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Let long answers count less: 1 gives every answer the same weight, 0 every token.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=7, show_default=True)
@click.option("--first-pass", type=click.IntRange(1), default=1, show_default=True, help="The pass to start with.")
@click.option("--passes", type=click.IntRange(1), help="At most this many passes.  [default: all that remain]")
@click.option(
    "--from",
    "start",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A trained adapter to start from, with a new schedule.",
)
@click.option("--until", type=click.IntRange(1), help="Stop after this step; --resume continues.")
@click.option("--resume", is_flag=True, help="Continue from the folder's checkpoint.")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True)
@debug_option
def learn(
    lessons: Path,
    model: Path | None,
    device: str,
    first_pass: int,
    passes: int | None,
    start: Path | None,
    until: int | None,
    resume: bool,
    output: Path,
    **settings: float,
) -> None:
    """Train an adapter on lessons. The version with the best validation score is kept."""
    try:
        from ecellm_lite.training.base import load_base
        from ecellm_lite.training.learning import Learning
        from ecellm_lite.training.recipe import Recipe
    except ImportError as error:
        raise UsageError(f"Learning needs {error.name}", step="run `pip install 'ecellm-lite[train]'`") from None
    from ecellm_lite.models.files import sha256_of
    from ecellm_lite.training.lessons import read_lessons

    if (output / "checkpoint.pt").exists() and not resume:
        raise UsageError(
            f"{output} already has a training run", step="continue it with --resume, or give another folder"
        )
    recipe = Recipe(**settings)  # type: ignore[arg-type]
    weights = model or base()
    learning = Learning(
        load_base(weights),
        read_lessons(lessons),
        recipe,
        output,
        first_pass=first_pass - 1,
        passes=passes,
        device=device,
        base_sha256=sha256_of(weights),
    )
    if start:
        learning.start_from(start)
    if resume:
        learning.resume()
    make_folder(output)
    click.echo(f"{learning.steps:,} steps; {asdict(recipe)}", err=True)
    learning.run(until=until, report=lambda line: click.echo(line, err=True))


def make_folder(path: Path) -> None:
    """Make an output folder. Raises UsageError if it cannot be made, for example because a file is in its place."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder {path} cannot be made ({error.strerror})", step="give another one") from None


def base() -> Path:
    """Return the path of the weights on which the demo is based."""
    from ecellm_lite.demo.build import shipped_weights

    return shipped_weights()


def limits(most: Sequence[tuple[str | None, int]]) -> dict[str, int]:
    """Return the maximum number of rows of each task. A task without a maximum is left out.

    A limit for one task overrides the limit for all tasks.
    """
    from ecellm_lite.tasks.registry import TASKS

    every = {task: rows for task in TASKS for name, rows in most if name is None}
    return every | {name: rows for name, rows in most if name}


def summary(curriculum: Curriculum) -> str:
    """Describe a curriculum in one line. A curriculum has all the lessons of a training run."""
    lessons, held_out = curriculum.lessons, sum(map(len, curriculum.held_out.values()))
    left_out = f"; left out as too long: {dict(curriculum.too_long)}" if curriculum.too_long else ""
    return f"{lessons.passes} passes of {len(lessons.of(0)):,} lessons, {held_out:,} rows held out{left_out}"
