"""Claim: with all layers on a GPU the answers are the same, and come sooner.

    python -m benchmarks.offload --rows 32 --model MODEL.gguf

Labelled rows of the ten tasks are answered with no layer and with all layers on the GPU: the seconds to load, rows a
second of each task (the second of two runs of other rows), and how many answers agree. CPU and GPU round differently,
so rows where two answers are as good as equal may come out otherwise: for those the two largest probabilities are told.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import click

from benchmarks.agreement import compared
from benchmarks.facts import write_results
from ecellm_lite import Answer, Runtime, ggml
from ecellm_lite.tasks.registry import TASKS

PLACEMENTS: dict[str, str | int] = {"cpu": 0, "gpu": "all"}


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option(
    "--rows", type=click.IntRange(1), default=32, show_default=True, help="Of each task, besides as many to warm up."
)
@click.option("--model", default="demo", show_default=True)
@click.option("--envelope")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/offload.json"))
def main(data: Path, rows: int, model: str, envelope: str | None, output: Path) -> None:
    """Answer the rows on both and write the rates and what agrees."""
    answers: dict[str, dict[str, list[Answer]]] = {}
    placements: dict[str, Any] = {}
    for placement, layers in PLACEMENTS.items():
        started = time.perf_counter()
        # Nothing that an earlier run read of an instruction is taken from the disk.
        with Runtime(model, envelope=envelope, gpu_layers=layers, prefix_files=False) as runtime:
            loaded = time.perf_counter() - started
            rates: dict[str, float] = {}
            answers[placement] = {}
            for task in TASKS:
                lines = (data / task / "test.jsonl").read_text("utf-8").splitlines()
                given = [json.loads(line) for line in lines]
                list(runtime.answers(task, given[rows : 2 * rows]))
                begun = time.perf_counter()
                answers[placement][task] = list(runtime.answers(task, given[:rows]))
                rates[task] = round(len(given[:rows]) / (time.perf_counter() - begun), 2)
            placements[placement] = {"load_seconds": round(loaded, 2), "rows_per_second": rates}
        click.echo(f"{placement}: {json.dumps(placements[placement])}", err=True)
    tasks = {}
    for task, cpu in answers["cpu"].items():
        pairs = list(zip(answers["gpu"][task], cpu, strict=True))
        scored = any(one.probabilities for one in cpu)
        tasks[task] = (
            compared(pairs) if scored else {"rows": len(pairs), "same": sum(a.text == b.text for a, b in pairs)}
        )
    rates = [placements["gpu"]["rows_per_second"][task] / placements["cpu"]["rows_per_second"][task] for task in TASKS]
    write_results(
        output,
        "offload",
        {
            "devices": [f"{device.name}: {device.description}" for device in ggml.devices()],
            "rows": rows,
            "placements": placements,
            "times_cpu": round(geometric_mean(rates), 2),
            "tasks": tasks,
        },
    )


if __name__ == "__main__":
    main()
