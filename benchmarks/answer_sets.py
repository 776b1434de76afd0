"""Claim: sets of plausible answers contain the right answer as often as promised, in 20 splits of labelled rows.

    python -m benchmarks.answer_sets

A row's set of plausible answers holds the most likely answer, and every answer whose probability reaches a threshold.
The demo answers the labelled rows of some tasks once. The rows are split at random 20 times. Each time, the threshold
is chosen on four fifths of the rows, so that 95% of their sets contain the right answer. On the last fifth, the sets
that contain the right answer are counted. The count is compared with the 1st percentile of the binomial distribution.
With an exact threshold, the count would be below this percentile by chance in at most 1% of the splits. Here, this can
happen a little more often, because the threshold itself depends on the random split.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import click
import numpy as np

from benchmarks.facts import write_results
from ecellm_lite import Runtime
from ecellm_lite.evaluate.answer_sets import Row, contains, least_probability, row_of
from ecellm_lite.evaluate.calibrating import read_tasks
from ecellm_lite.evaluate.cases import case_of
from ecellm_lite.tasks.registry import get_task

TASKS = ("product_matching", "sentiment_analysis", "product_relation_prediction", "multiclass_product_classification")
GUARANTEE, SPLITS, DOUBT = 0.95, 20, 0.01
CHOOSING = 0.8  # the share of rows that the least probability is chosen on


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--limit", type=click.IntRange(40), default=500, show_default=True)
@click.option("--model", default="demo", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/answer_sets.json"))
def main(data: Path, limit: int, model: str, output: Path) -> None:
    """Answer the rows, split them, and write how often the sets of plausible answers contain the right answer."""
    labelled, _ = read_tasks(data, [get_task(name) for name in TASKS], limit=limit)
    tasks = {}
    with Runtime(model) as runtime:
        for task, rows, _ in labelled:
            answers = runtime.answers(task, (row.row for row in rows), calibration=False)
            pairs = zip(rows, answers, strict=True)
            tasks[task.name] = measured(
                [row_of(answer, case_of(row.space, answer, row.gold)) for row, answer in pairs if answer.error is None]
            )
    figures = {"guarantee": GUARANTEE, "splits": SPLITS, "chosen_on": CHOOSING, "tasks": tasks}
    click.echo(json.dumps(figures, indent=2), err=True)
    write_results(output, "answer_sets", figures)


def measured(rows: Sequence[Row]) -> dict[str, float]:
    """Split the rows at random SPLITS times. Return how often the sets contain the right answer, and their mean size.

    A split's coverage is the fraction of its test rows whose set contains the right answer. In the result,
    `splits_below` counts the splits whose coverage is below `binomial_limit`. If the threshold were exactly right, this
    would happen in at most 1% of the splits.
    """
    random = np.random.default_rng(0)
    count = round(len(rows) * CHOOSING)
    coverages, sizes = [], []
    for _ in range(SPLITS):
        order = random.permutation(len(rows))
        least = least_probability([rows[place] for place in order[:count]], GUARANTEE)
        others = [rows[place] for place in order[count:]]
        coverages.append(fmean(contains(row, least) for row in others))
        sizes.append(fmean(max(1, sum(share >= least for share in row.shares)) for row in others))
    fewest = lowest(len(rows) - count) / (len(rows) - count)
    return {
        "rows": len(rows),
        "answers": len(rows[0].shares),
        "mean_coverage": round(fmean(coverages), 4),
        "least_coverage": round(min(coverages), 4),
        "binomial_limit": round(fewest, 4),
        "splits_below": sum(coverage < fewest for coverage in coverages),
        "mean_size": round(fmean(sizes), 2),
    }


def lowest(count: int) -> int:
    """Return the 1st percentile of the number of successes in `count` tries.

    A try succeeds with the probability GUARANTEE.
    """
    total = 0.0
    for successes in range(count + 1):
        total += math.comb(count, successes) * GUARANTEE**successes * (1 - GUARANTEE) ** (count - successes)
        if total > DOUBT:
            return successes
    return count


if __name__ == "__main__":
    main()
