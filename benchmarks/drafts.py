"""Measures how much faster free text is written if words of the prompt are tried as the text's next words.

    python -m benchmarks.drafts

The words that are tried are called a draft. The first labelled rows of answer_generation are answered with drafts, and
then without drafts. This is done twice: with all rows in parallel, and with one row after the other.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite import Runtime

TASK = "answer_generation"


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--rows", type=click.IntRange(1), default=12, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option("--model", default="demo", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/drafts.json"))
def main(data: Path, rows: int, repeats: int, model: str, output: Path) -> None:
    """Answer the rows with and without drafts, and write the rates."""
    lines = (data / TASK / "test.jsonl").read_text("utf-8").splitlines()[: rows + 1]
    warm, *measured = map(json.loads, lines)
    rates: dict[str, dict[str, list[float]]] = {way: {"drafts": [], "none": []} for way in ("together", "one by one")}
    equal: dict[str, list[bool]] = {way: [] for way in rates}
    for repeat in range(repeats):
        for way, each in rates.items():
            texts: list[list[Any]] = []
            # The order alternates between repeats, because a shared machine's speed changes over time.
            for name in sorted(each, reverse=bool(repeat % 2)):
                with Runtime(model, drafts=name == "drafts") as runtime:
                    runtime.answer(TASK, warm)
                    started = time.perf_counter()
                    if way == "together":
                        answers = list(runtime.answers(TASK, measured))
                    else:
                        answers = [runtime.answer(TASK, row) for row in measured]
                    each[name].append(round(len(measured) / (time.perf_counter() - started), 3))
                texts.append([answer.value for answer in answers])
                click.echo(f"{way}, {name}: {each[name][-1]} rows/s", err=True)
            equal[way].append(texts[0] == texts[1])
    write_results(
        output,
        "drafts",
        {
            "rows": len(measured),
            "rows_per_second": {
                way: {name: median(runs) for name, runs in each.items()} for way, each in rates.items()
            },
            "each_repeat": rates,
            "ratio": {way: round(median(each["drafts"]) / median(each["none"]), 3) for way, each in rates.items()},
            "same_texts": {way: all(each) for way, each in equal.items()},
        },
    )


if __name__ == "__main__":
    main()
