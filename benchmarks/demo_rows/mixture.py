"""Makes training examples (lessons) from a given number of rows of each source, one lesson from each row.

    python -m benchmarks.demo_rows.mixture benchmarks/demo_rows/ninth.json --data ../shared/data -o lessons.npz

The JSON file says how many rows each task takes from each source. The sources are:

- `data`: the labelled rows in DATA itself.
- `hard`: synthetic hard cases.
- `made`: other synthetic rows.
- any other name: the labelled rows in DATA/more that have this source. `wdc` includes `wdc/watches` and `wdc/shoes`.

Labelled rows are drawn at random. Rows that are held out for calibrations and validation are never drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import click

from benchmarks.demo_rows.held_out import divided
from benchmarks.demo_rows.layout import MAKERS
from ecellm_lite.cli.train import base, summary
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.settings import Settings
from ecellm_lite.envelopes import ALPACA
from ecellm_lite.training.curriculum import make_curriculum
from ecellm_lite.training.hard_cases import hard_rows
from ecellm_lite.training.rows import Row, Rows

Mixture = Mapping[str, Mapping[str, int]]  # the number of rows by task and source


@click.command()
@click.argument("mixture", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=Path("../shared/data"), show_default=True)
@click.option("--seed", default=70, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
def main(mixture: Path, data: Path, seed: int, output: Path) -> None:
    """Write lessons (training examples). The file `mixture` says how many rows to take from each source."""
    (own, _), (others, _) = divided(data), divided(data / "more")
    random = Random(seed)
    rows = drawn(json.loads(mixture.read_text("utf-8")), own, others, random)
    backend = LlamaBackend(base(), Settings(context=256, gpu_layers=0))
    curriculum = make_curriculum(rows, {}, backend.vocabulary, ALPACA, passes=1, random=random)
    backend.close()
    curriculum.write(output)
    click.echo(summary(curriculum), err=True)


def drawn(mixture: Mixture, own: Rows, others: Rows, random: Random) -> dict[str, list[Row]]:
    """Draw the rows of a mixture at random, and return them by task.

    `own`: the rows of the data folder itself. `others`: the rows of its subfolder `more`.

    If a source has fewer rows than the mixture needs, its rows are repeated.
    """
    return {
        task: [row for source, count in counts.items() for row in _of(task, source, count, own, others, random)]
        for task, counts in mixture.items()
    }


def _of(task: str, source: str, count: int, own: Rows, others: Rows, random: Random) -> Sequence[Row]:
    if source == "hard":
        return hard_rows(task, count, random)
    if source == "made":
        return MAKERS[task](own, count, random)
    rows = own[task] if source == "data" else [row for row in others[task] if _is_from(row, source)]
    if not rows:
        raise SystemExit(f"No row of {task} is from the source {source!r}; correct the mixture.")
    whole, rest = divmod(count, len(rows))
    return [*rows] * whole + random.sample(rows, rest)


def _is_from(row: Row, source: str) -> bool:
    return f"{row.get('source', '')}/".startswith(f"{source}/")


if __name__ == "__main__":
    main()
