"""Trains the demo's adapter: first the lessons, where llama.cpp is, then the learning, where torch is.

    python -m ecellm_lite.demo.train lessons --data DIR --passes 6 -o lessons.npz
    python -m ecellm_lite.demo.train learn lessons.npz -o trained [--resume]

DIR holds labelled rows as TASK/train.jsonl, {"task", "input", "output"} a line. The result is trained/adapter, a PEFT
folder that `ecellm-lite convert --lora` takes.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from ecellm_lite.demo.training.lessons import VALIDATION, make_lessons, read_lessons, read_rows


@click.group()
def train() -> None:
    """Train the demo's adapter, or your own on the same base."""


@train.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option(
    "--model", type=click.Path(path_type=Path, dir_okay=False), help="A GGUF file.  [default: the demo's base]"
)
@click.option("--envelope", default="alpaca", show_default=True)
@click.option("--passes", type=click.IntRange(1, 100), default=6, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
def lessons(data: Path, model: Path | None, envelope: str, passes: int, seed: int, output: Path) -> None:
    """Turn labelled rows into tokens, with some held out for validation."""
    from ecellm_lite.engine.llama import LlamaBackend, Settings
    from ecellm_lite.envelopes import get_envelope

    rows = read_rows(data)
    backend = LlamaBackend(model or _base(), Settings(context=256, gpu_layers=0))
    try:
        made, too_long = make_lessons(rows, backend.vocabulary, get_envelope(envelope), passes=passes, seed=seed)
    finally:
        backend.close()
    made.write(output)
    learned = len(made.lessons) - len(made.of(VALIDATION))
    click.echo(
        f"{learned:,} lessons in {passes} passes, {len(made.of(VALIDATION)):,} held out; too long: {dict(too_long)}",
        err=True,
    )


@train.command()
@click.argument("lessons", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--model", type=click.Path(path_type=Path, dir_okay=False), help="A GGUF file.  [default: the demo's base]"
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--rank", type=click.IntRange(1, 256), default=16, show_default=True)
@click.option("--alpha", type=click.IntRange(1), default=16, show_default=True)
@click.option("--dropout", type=click.FloatRange(0, 0.9), default=0.0, show_default=True)
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True)
@click.option("--rows", type=click.IntRange(1), default=32, show_default=True, help="Rows a step.")
@click.option("--tokens", type=click.IntRange(1), default=8192, show_default=True, help="Tokens at a time, for memory.")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--passes", type=click.IntRange(1), help="Only the first so many.  [default: all there are]")
@click.option("--until", type=click.IntRange(1), help="Stop after this step; --resume goes on.")
@click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint.")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True)
def learn(
    lessons: Path,
    model: Path | None,
    device: str,
    passes: int | None,
    until: int | None,
    resume: bool,
    output: Path,
    **settings: float,
) -> None:
    """Train an adapter on lessons; the best by validation is kept."""
    from ecellm_lite.demo.training.base import load_base
    from ecellm_lite.demo.training.learning import Learning, Recipe

    recipe = Recipe(**settings)  # type: ignore[arg-type]
    base = load_base(model or _base())
    learning = Learning(base, read_lessons(lessons), recipe, output, passes=passes, device=device)
    if resume:
        learning.resume()
    click.echo(f"{learning.steps:,} steps; {asdict(recipe)}", err=True)
    learning.run(until=until, report=lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201


def _base() -> Path:
    from ecellm_lite.demo.build import shipped_weights

    return shipped_weights()


if __name__ == "__main__":
    train()
