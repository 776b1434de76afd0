"""Makes the lessons (training examples) of the demo's adapter.

    python -m benchmarks.demo_rows --data ../shared/data --passes 8 --seed 7 --held-out held-out -o lessons.npz

It makes the same lessons as `ecellm-lite train lessons` and takes the same options. For tasks with little data, it adds
made-up rows. The adapter's card (ecellm_lite/demo/adapter/README.md) says which options were used for the demo.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.demo_rows.layout import demo_layout
from ecellm_lite.cli.train import base, lesson_options, limits, summary
from ecellm_lite.envelopes import get_envelope
from ecellm_lite.training.curriculum import read_curriculum


@click.command()
@lesson_options
def main(
    data: Path,
    model: Path | None,
    envelope: str,
    passes: int,
    seed: int,
    most: Sequence[tuple[str | None, int]],
    held_out: Path | None,
    output: Path,
) -> None:
    """Make the demo's lessons."""
    layout = demo_layout(limits(most))
    curriculum = read_curriculum(data, model or base(), get_envelope(envelope), passes=passes, seed=seed, layout=layout)
    curriculum.write(output, held_out)
    click.echo(summary(curriculum), err=True)


if __name__ == "__main__":
    main()
