"""Claim: on a CPU, `train learn` is about twice as fast as training with peft's layers, with equal losses.

    OMP_NUM_THREADS=1 python -m benchmarks.learning_speed

The lessons (training rows) are 16 hard cases of each task. The demo's adapter learns them in steps of 16 rows. One
process merges the adapter into the weights, and another process uses peft's layers. The first step is not measured.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from importlib.metadata import version
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite.cli.train import base
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.settings import Settings
from ecellm_lite.envelopes import get_envelope
from ecellm_lite.training.curriculum import make_curriculum
from ecellm_lite.training.hard_cases import MAKERS, hard_rows
from ecellm_lite.training.lessons import read_lessons

ADAPTER = Path("ecellm_lite/demo/adapter")
ROWS = 16  # per step, and of each task
WAYS = ("merged", "peft")


@click.command()
@click.option("--steps", type=click.IntRange(2), default=4, show_default=True, help="At most six.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/learning_speed.json"))
def main(steps: int, output: Path) -> None:
    """Train with merged weights and with peft's layers, and write how fast each of them was."""
    with TemporaryDirectory() as folder:
        lessons = Path(folder) / "lessons.npz"
        write_lessons(lessons)
        ways = {}
        for way in WAYS:
            # A process of its own has its own peak of memory.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                ways[way] = pool.apply(learn, (way, lessons, Path(folder) / way, steps))
    rates = [ways[way]["tokens_per_second"] for way in WAYS]
    packages = {name: version(name) for name in ("torch", "transformers", "peft", "numpy")}
    write_results(output, "learning_speed", {"packages": packages, "ways": ways, "ratio": rates[0] / rates[1]})


def write_lessons(path: Path) -> None:
    """Write a training lesson (prompt and right answer) for each synthetic row. No rows are held out for validation."""
    random = Random(7)
    rows = {task: hard_rows(task, ROWS, random) for task in MAKERS}
    backend = LlamaBackend(base(), Settings(context=256, gpu_layers=0))
    curriculum = make_curriculum(rows, {}, backend.vocabulary, get_envelope("alpaca"), passes=1, random=random)
    backend.close()
    curriculum.write(path)


def learn(way: str, path: Path, folder: Path, steps: int) -> dict[str, Any]:
    """Train for `steps` steps, and return the tokens per second, the losses and the peak memory.

    `way` is "merged" (our own training code) or "peft". `path` is the file of lessons, and `folder` gets the files
    that training writes.
    """
    import torch

    from ecellm_lite.training import learning
    from ecellm_lite.training.base import load_base
    from ecellm_lite.training.recipe import Recipe

    learning.EVERY = 1  # a loss of each step
    if way == "peft":
        learning.is_merged = lambda recipe, device: False
    lessons = read_lessons(path)
    run = learning.Learning(load_base(base()), lessons, Recipe(rows=ROWS, rate=5e-4, tokens=2048), folder)
    run.start_from(ADAPTER)
    run.run(until=1, report=click.echo)
    start = time.perf_counter()
    run.run(until=steps, report=click.echo)
    seconds = time.perf_counter() - start
    taken = [lesson for batch in run.batches[1:steps] for lesson in batch]
    return {
        "threads": torch.get_num_threads(),
        "rows": len(taken),
        "tokens": sum(len(lesson.tokens) for lesson in taken),
        "seconds": seconds,
        "tokens_per_second": sum(len(lesson.tokens) for lesson in taken) / seconds,
        "losses": [point["loss"] for point in run.losses],
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    main()
