"""Pulls, converts and verifies eCeLLM's own weights, and answers labelled rows with them.

This needs a network.

    python -m benchmarks.ecellm --data DIR --model eCeLLM-S

The first rows of each task's `test.jsonl` are answered. The results have the fraction of answers that equal the label,
not the paper's metrics. This benchmark was never run, because the weights could not be downloaded on our machines.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite import Runtime
from ecellm_lite.models.catalogue import CATALOGUE
from ecellm_lite.models.store import Store
from ecellm_lite.provision.pull import pull
from ecellm_lite.tasks.registry import TASKS

MODELS = tuple(name for name, entry in CATALOGUE.items() if entry.trained_on == "ECInstruct")


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--model", "models", type=click.Choice(MODELS), multiple=True, help="[default: all three]")
@click.option("--quant", default="Q4_K_M", show_default=True)
@click.option("--rows", type=click.IntRange(1), default=50, show_default=True, help="Of each task.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/ecellm.json"))
def main(data: Path, models: tuple[str, ...], quant: str, rows: int, output: Path) -> None:
    """Pull and convert the models that the store does not have, answer the rows, and write the results."""
    results: dict[str, Any] = {}
    for model in models or MODELS:
        name = f"{model}:{quant}"
        started = time.perf_counter()
        if not Store().has(name):
            pull(model, file_type=quant)  # checks its tokens, and its logits if torch is installed
        ready = time.perf_counter() - started
        results[model] = {"quant": quant, "seconds_to_have_it": round(ready, 1), "tasks": {}}
        with Runtime(name) as runtime:
            for task in TASKS:
                lines = (data / task / "test.jsonl").read_text("utf-8").splitlines()[:rows]
                labelled = [json.loads(line) for line in lines]
                started = time.perf_counter()
                answers = list(runtime.answers(task, labelled))
                right = sum(answer.text == row["output"] for answer, row in zip(answers, labelled, strict=True))
                results[model]["tasks"][task] = {
                    "rows": len(labelled),
                    "as_labelled": round(right / len(labelled), 3),
                    "rows_per_second": round(len(labelled) / (time.perf_counter() - started), 2),
                }
                click.echo(f"{model} {task}: {results[model]['tasks'][task]}", err=True)
    write_results(output, "ecellm", results)


if __name__ == "__main__":
    main()
