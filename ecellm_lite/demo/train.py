"""Trains the demo's adapter: first the lessons, where llama.cpp is, then the learning, where torch is.

    python -m ecellm_lite.demo.train lessons --data DIR --passes 6 -o lessons.npz
    python -m ecellm_lite.demo.train learn lessons.npz -o trained [--resume]

DIR holds labelled rows as TASK/train.jsonl, {"input", "output"} a line. The result is trained/adapter, a PEFT folder
that `ecellm-lite convert --lora` takes.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import click

from ecellm_lite.errors import EcellmError, UsageError
from ecellm_lite.tasks.registry import TASKS, get_task


class Group(click.Group):
    """Commands whose errors are one sentence and an exit code, as those of `ecellm-lite`."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except EcellmError as error:
            click.echo(f"train: {error}", err=True)
            raise click.exceptions.Exit(error.exit_code) from None


class Most(click.ParamType):  # type: ignore[type-arg]
    """Rows of every task (N), or of one (TASK=N), as the task, if one is named, and the rows."""

    name = "[TASK=]N"
    rows = click.IntRange(1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str | None, int]:
        """Return the task's name, or None, and the number of rows."""
        task, _, rows = value.rpartition("=")
        try:
            return get_task(task).name if task else None, self.rows.convert(rows, param, ctx)
        except UsageError as error:
            self.fail(str(error), param, ctx)


@click.group(cls=Group)
def train() -> None:
    """Train the demo's adapter, or your own on the same base."""


@train.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A GGUF file.  [default: the demo's base]",
)
@click.option("--envelope", default="alpaca", show_default=True)
@click.option("--passes", type=click.IntRange(1, 100), default=6, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option(
    "--most",
    type=Most(),
    multiple=True,
    help="Rows of a task in a pass, drawn anew for each; of one task as TASK=N.  [default: all that there are]",
)
@click.option(
    "--held-out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the rows that are held out here, as TASK/test.jsonl: `calibrate` may use them.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
def lessons(
    data: Path,
    model: Path | None,
    envelope: str,
    passes: int,
    seed: int,
    most: tuple[tuple[str | None, int], ...],
    held_out: Path | None,
    output: Path,
) -> None:
    """Turn labelled rows into tokens, with a tenth held out for validation."""
    from ecellm_lite.demo.training.lessons import make_lessons
    from ecellm_lite.demo.training.rows import read_rows, split_rows, write_rows
    from ecellm_lite.engine.llama import LlamaBackend, Settings
    from ecellm_lite.envelopes import get_envelope

    limits = {task: rows for task in TASKS for named, rows in most if named is None}
    limits |= {named: rows for named, rows in most if named}
    random = Random(seed)  # noqa: S311 - nothing secret is drawn
    learned, kept = split_rows(read_rows(data), random)
    backend = LlamaBackend(model or _base(), Settings(context=256, gpu_layers=0))
    try:
        made, too_long = make_lessons(
            learned, kept, backend.vocabulary, get_envelope(envelope), passes=passes, random=random, most=limits
        )
    finally:
        backend.close()
    made.write(output)
    if held_out:
        write_rows(held_out, kept)
    count = sum(map(len, kept.values()))
    left_out = f"; left out as too long: {dict(too_long)}" if too_long else ""
    click.echo(f"{passes} passes of {len(made.of(0)):,} lessons, {count:,} rows held out{left_out}", err=True)


@train.command()
@click.argument("lessons", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A GGUF file.  [default: the demo's base]",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--rank", type=click.IntRange(1, 256), default=16, show_default=True)
@click.option("--alpha", type=click.IntRange(1), default=16, show_default=True)
@click.option("--dropout", type=click.FloatRange(0, 0.9), default=0.0, show_default=True)
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True)
@click.option("--rows", type=click.IntRange(1), default=32, show_default=True, help="Rows a step.")
@click.option("--tokens", type=click.IntRange(1), default=8192, show_default=True, help="Tokens at a time, for memory.")
@click.option("--bfloat16", is_flag=True, help="Compute in 16 bits: for a GPU, or a CPU with AMX.")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option(
    "--first-pass", type=click.IntRange(1), default=1, show_default=True, help="Of the lessons, the pass to begin with."
)
@click.option("--passes", type=click.IntRange(1), help="Only so many.  [default: all that are left]")
@click.option(
    "--from",
    "start",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A trained adapter to start from, with a new schedule.",
)
@click.option("--until", type=click.IntRange(1), help="Stop after this step; --resume goes on.")
@click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint.")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True)
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
    """Train an adapter on lessons; the best by validation is kept."""
    try:
        from ecellm_lite.demo.training.base import load_base
        from ecellm_lite.demo.training.learning import Learning, Recipe
    except ImportError as error:
        raise UsageError(f"Learning needs {error.name}: `pip install 'ecellm-lite[train]'`.") from None
    from ecellm_lite.demo.training.lessons import read_lessons

    if (output / "checkpoint.pt").exists() and not resume:
        raise UsageError(f"{output} holds a training: go on with --resume, or give another folder.")
    recipe = Recipe(**settings)  # type: ignore[arg-type]
    base = load_base(model or _base())
    learning = Learning(
        base, read_lessons(lessons), recipe, output, first_pass=first_pass - 1, passes=passes, device=device
    )
    if start:
        learning.start_from(start)
    if resume:
        learning.resume()
    click.echo(f"{learning.steps:,} steps; {asdict(recipe)}", err=True)
    learning.run(until=until, report=lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201


def _base() -> Path:
    from ecellm_lite.demo.build import shipped_weights

    return shipped_weights()


if __name__ == "__main__":
    train()
