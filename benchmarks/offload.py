"""Compares a model's answers on the GPU with its answers on the CPU.

    python -m benchmarks.offload --rows 32 --model MODEL.gguf

Labelled rows of the ten tasks are answered twice: with all layers of the model on the GPU, and on the CPU. The results
say how many answers agree. For the GPU, they also have the seconds to load, and each task's rows per second after a
warm-up on other rows. The CPU and the GPU round differently, so they may choose different answers where two answers are
about equally likely. For rows whose answers differ, the results have the two largest probabilities on the GPU and on
the CPU. The CPU's rates are not kept, because a fair comparison would need a carefully chosen number of threads.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.agreement import compared
from benchmarks.facts import write_results
from ecellm_lite import Answer, Runtime
from ecellm_lite.devices import devices
from ecellm_lite.tasks.registry import TASKS


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option(
    "--rows", type=click.IntRange(1), default=32, show_default=True, help="Of each task, plus as many to warm up."
)
@click.option("--model", default="demo", show_default=True)
@click.option("--envelope")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/offload.json"))
def main(data: Path, rows: int, model: str, envelope: str | None, output: Path) -> None:
    """Answer the rows on the GPU and on the CPU; write the GPU's rates and how many answers agree."""
    labelled = {
        task: [json.loads(line) for line in (data / task / "test.jsonl").read_text("utf-8").splitlines()[: 2 * rows]]
        for task in TASKS
    }
    cpu, _ = answered(labelled, rows, model, envelope, 0)
    gpu, measured = answered(labelled, rows, model, envelope, "all")
    tasks: dict[str, Any] = {}
    for task in TASKS:
        pairs = list(zip(gpu[task], cpu[task], strict=True))
        if any(one.probabilities for one in cpu[task]):
            tasks[task] = compared(pairs, ("gpu", "cpu"))
        else:
            tasks[task] = {"rows": len(pairs), "same": sum(one.text == other.text for one, other in pairs)}
        click.echo(f"{task:34} {json.dumps(tasks[task])}", err=True)
    names = [f"{device.name}: {device.description}" for device in devices()]
    write_results(output, "offload", {"devices": names, "rows": rows, **measured, "tasks": tasks})


def answered(
    labelled: dict[str, list[Any]], rows: int, model: str, envelope: str | None, gpu_layers: str | int
) -> tuple[dict[str, list[Answer]], dict[str, Any]]:
    """Return the answers to each task's first `rows` rows, and the measurements.

    The measurements are the seconds to load the model, and each task's rows per second.
    """
    answers: dict[str, list[Answer]] = {}
    rates: dict[str, float] = {}
    started = time.perf_counter()
    # An instruction that an earlier run has stored on disk is not used.
    with Runtime(model, envelope=envelope, gpu_layers=gpu_layers, prefix_files=False) as runtime:
        loaded = time.perf_counter() - started
        for task, lines in labelled.items():
            list(runtime.answers(task, lines[rows:]))
            begun = time.perf_counter()
            answers[task] = list(runtime.answers(task, lines[:rows]))
            rates[task] = round(len(answers[task]) / (time.perf_counter() - begun), 2)
    return answers, {"load_seconds": round(loaded, 2), "rows_per_second": rates}


if __name__ == "__main__":
    main()
