"""Measures how much faster rows are answered when rows with the same beginning are answered together.

    python -m benchmarks.grouping

The rows are pairs of products. Each `product_1` of the first `--products` labelled rows is paired with each `product_2`
of the first `--candidates` rows. The pairs are shuffled, because a shop's file may have any order. They are answered in
two ways, one after the other:

- as in a job, which answers rows with the same beginning together;
- in the file's order, where the rows share only the instruction.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite import Runtime

TASK = "product_matching"


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--products", type=click.IntRange(1), default=4, show_default=True)
@click.option("--candidates", type=click.IntRange(1), default=20, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--model", default="demo", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/grouping.json"))
def main(data: Path, products: int, candidates: int, repeats: int, model: str, output: Path) -> None:
    """Answer the rows as in a job and in the file's order, and write the rows per second of both."""
    rows = pairs(data, products, candidates)
    rates: dict[str, list[float]] = {"grouped": [], "ungrouped": []}
    computed: dict[str, int] = {}
    for _ in range(repeats):
        for name, each in rates.items():
            with Runtime(model, grouped=name == "grouped") as runtime:
                runtime.answer(TASK, rows[0])
                started = time.perf_counter()
                answers = list(runtime.answers(TASK, rows))
                each.append(round(len(rows) / (time.perf_counter() - started), 3))
            usages = [answer.usage for answer in answers if answer.usage]
            computed[name] = sum(usage.prompt_tokens - (usage.cached_tokens or 0) for usage in usages)
            click.echo(f"{name}: {each[-1]} rows/s", err=True)
    write_results(
        output,
        "grouping",
        {
            "products": products,
            "candidates": candidates,
            "rows_per_second": {name: median(each) for name, each in rates.items()},
            "each_repeat": rates,
            "tokens_computed": computed,
            "ratio": round(median(rates["grouped"]) / median(rates["ungrouped"]), 3),
        },
    )


def pairs(data: Path, products: int, candidates: int) -> list[dict[str, Any]]:
    """Return each product paired with each candidate, shuffled with a fixed seed."""
    lines = (data / TASK / "test.jsonl").read_text("utf-8").splitlines()[: max(products, candidates)]
    inputs = [json.loads(line)["input"] for line in lines]
    rows = [
        {"product_1": one["product_1"], "product_2": other["product_2"]}
        for one in inputs[:products]
        for other in inputs[:candidates]
    ]
    random.Random(0).shuffle(rows)
    return rows


if __name__ == "__main__":
    main()
