"""Measures how much time a cascade of two models saves, and how much accuracy it loses.

    python -m benchmarks.cascade --model demo,qwen2.5-coder-0.5b-instruct-q4_k_m.gguf --data ../shared/data

A cascade asks a small model first, and a larger one if the answer's probability is below `escalate_below`. Both models
stay loaded. The labelled rows of a task are answered once for each value of `escalate_below`. At 0, the first model
answers all rows. At 1, the last model answers every row unless the first answer's probability is 1. Finally, the last
model answers all rows alone. The results have the accuracy, and the seconds for all rows of a task.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite import Cascade, Runtime
from ecellm_lite.answers.answer import Answer

TASKS = ("product_matching", "sentiment_analysis")
LEVELS = (0.0, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
WARM_UP = 8


@click.command()
@click.option("--model", required=True, help="The names or files of two models, the smaller one first: A,B.")
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--rows", type=click.IntRange(2), default=200, show_default=True, help="Of each task.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/cascade.json"))
def main(model: str, data: Path, rows: int, output: Path) -> None:
    """Answer the rows with each value of `escalate_below`, and write the accuracy and the time."""
    first_name, last_name = model.split(",")
    tasks: dict[str, Any] = {}
    with Runtime(first_name, prefix_files=False) as first, Runtime(last_name, prefix_files=False) as last:
        for task in TASKS:
            with (data / task / "test.jsonl").open(encoding="utf-8") as lines:
                labelled = [json.loads(line) for line in islice(lines, rows + WARM_UP)]
            for runtime in (first, last):
                list(runtime.answers(task, labelled[rows:]))
            gold = [row["output"] for row in labelled[:rows]]
            curve = []
            for level in LEVELS:
                cascade = Cascade([first, last], escalate_below=level)
                point = measured(cascade.answers(task, labelled[:rows]), gold, last.model.sha256)
                curve.append({"escalate_below": level, **point})
                click.echo(f"{task}: {curve[-1]}", err=True)
            alone = measured(last.answers(task, labelled[:rows]), gold, last.model.sha256)
            click.echo(f"{task}, the last model alone: {alone}", err=True)
            tasks[task] = {"rows": rows, "curve": curve, "last_model": alone}
    write_results(output, "cascade", {"models": [Path(first_name).name, Path(last_name).name], "tasks": tasks})


def measured(answers: Iterable[Answer], gold: Sequence[str], last: str) -> dict[str, float]:
    """Return the seconds until all answers are there, the accuracy, and the fraction of answers from the last model.

    `last`: the sha256 of the last model's file.
    """
    start = time.perf_counter()
    collected = list(answers)
    seconds = time.perf_counter() - start
    return {
        "seconds": round(seconds, 2),
        "accuracy": sum(answer.text == text for answer, text in zip(collected, gold, strict=True)) / len(gold),
        "escalated": sum(answer.model.sha256 == last for answer in collected) / len(gold),
    }


if __name__ == "__main__":
    main()
