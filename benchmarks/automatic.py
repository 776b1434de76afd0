"""Chooses thresholds for a precision of 95% on one half of the labelled rows, and checks them on the other half.

    rows=../shared/data/product_matching/test.jsonl
    ecellm-lite run --task product_matching --model demo --calibration off --rows $rows --output pairs.jsonl
    python -m benchmarks.automatic $rows pairs.jsonl

The rows are pairs of products, which match or not. The model answers each row once. The rows are split into halves in
several ways: first and second half of the file, even and odd lines, and at random. On each half, a threshold is chosen
for the answer "yes" and another for "no", as `calibrate --target-precision 0.95` does. Both thresholds are then checked
on the other half. An answer is automatic if its probability is at least its threshold.

The answers are not calibrated. A calibration would not change which rows are automatic, because it changes all
probabilities but not their order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.facts import write_results
from ecellm_lite.answers.answer import Answer
from ecellm_lite.evaluate.thresholds import DOUBT, Judged, least_thresholds, reaches

TARGET, LEAST = 0.95, 0.93
ALLOWED = 0.05  # of the random halves may be below


class Half(NamedTuple):
    """The results on one half of the rows, with thresholds that were chosen on the other half.

    - `share`: the fraction of answers whose probability reaches the threshold for that answer.
    - `precision`: the fraction of these answers that are right, or None if there are none.
    """

    share: float
    precision: float | None


@click.command()
@click.argument("labelled", type=click.Path(exists=True, path_type=Path))
@click.argument("answers", type=click.Path(exists=True, path_type=Path))
@click.option("--halves", type=click.IntRange(1), default=100, show_default=True, help="Random splits of the rows.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/automatic.json"))
def main(labelled: Path, answers: Path, halves: int, output: Path) -> None:
    """Split the rows, choose thresholds on one half, check them on the other half, and write the results."""
    given = [Answer.from_dict(json.loads(line)) for line in answers.read_text("utf-8").splitlines()]
    golds = [json.loads(line)["output"] for line in labelled.read_text("utf-8").splitlines()]
    rows = [
        Judged(answer.text, answer.probability, answer.text == gold)
        for answer, gold in zip(given, golds, strict=True)
        if answer.text is not None and answer.probability is not None
    ]
    places = np.arange(len(rows))
    generator = np.random.default_rng(0)
    random = [half for _ in range(halves) for half in both_ways(rows, generator.permutation(places) < len(rows) // 2)]
    precisions = [half.precision for half in random if half.precision is not None]
    below = sum(precision < LEAST for precision in precisions)
    figures = {
        "model": given[0].model.sha256,
        "rows": len(rows),
        "right": fmean(row.correct for row in rows),
        "target": TARGET,
        "doubt": DOUBT,
        "in_the_file": both_ways(rows, places < len(rows) // 2),
        "every_second_line": both_ways(rows, places % 2 == 0),
        "random": {
            "halves": len(random),
            "none_automatic": len(random) - len(precisions),
            f"below_{LEAST}": below,
            f"below_{TARGET}": sum(precision < TARGET for precision in precisions),
            "least_precision": min(precisions),
            "mean_precision": fmean(precisions),
            "mean_share": fmean(half.share for half in random),
        },
        "share_by_all_rows": judge(rows, rows).share,
    }
    click.echo(figures, err=True)
    write_results(output, "automatic", figures)
    if below > ALLOWED * len(random):
        raise SystemExit(f"{below} of {len(random)} halves are below {LEAST}.")


def both_ways(rows: Sequence[Judged], first: NDArray[np.bool_]) -> list[Half]:
    """Measure each half of the rows with the thresholds that were chosen on the other half.

    `first`: which rows are in the first half.
    """
    one = [row for row, inside in zip(rows, first, strict=True) if inside]
    other = [row for row, inside in zip(rows, first, strict=True) if not inside]
    return [judge(one, other), judge(other, one)]


def judge(choosing: Sequence[Judged], judged: Sequence[Judged]) -> Half:
    """Choose thresholds on the rows `choosing`, apply them to the rows `judged`, and return the results."""
    thresholds = least_thresholds(choosing, TARGET, sorted({row.key for row in choosing}))
    right = [row.correct for row in judged if reaches(row, thresholds)]
    return Half(len(right) / len(judged), fmean(right) if right else None)


if __name__ == "__main__":
    main()
