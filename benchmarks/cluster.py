"""Claim: a Ray cluster with more actors answers more rows per second, up to one actor per core.

    pip install 'ecellm-lite[ray]'
    python -m benchmarks.cluster

The same labelled rows are answered by clusters of 1, 2, … actors, up to the number of cores. Each actor has one thread.
For comparison, two Runtimes answer the rows: one with one thread, and one with as many threads as cores. The speed of a
shared machine changes over time. So the rows are split into parts. The second part is answered only when all clusters
and Runtimes have answered the first, and so on. All models are loaded before the clock starts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from benchmarks.callers import Row, mixed_rows
from benchmarks.facts import write_results
from ecellm_lite import Runtime
from ecellm_lite.engine.settings import available_cores
from ecellm_lite.jobs.ray_cluster import RayRuntime

PART = 150  # rows


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--rows", type=click.IntRange(3), default=900, show_default=True, help="Of three tasks together.")
@click.option("--model", default="demo", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/cluster.json"))
def main(data: Path, rows: int, model: str, output: Path) -> None:
    """Measure the rows per second of clusters with 1, 2, … actors, and of a Runtime."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cores = available_cores()
    actors = range(1, cores + 1)
    # Ray counts the cores that actors ask for; those of a cluster that waits for its turn are free in truth.
    ray.init(num_cpus=sum(actors), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    mixed = mixed_rows(data, rows)
    ways: dict[str, Callable[[], Runtime | RayRuntime]] = {
        "one thread": partial(Runtime, model, threads=1),
        "all threads": partial(Runtime, model, threads=cores),
    }
    ways |= {_named(count): partial(RayRuntime, model, actors=count, threads=1) for count in actors}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with ExitStack() as stack:
        answerers = {way: make() for way, make in ways.items()}
        for answerer in answerers.values():
            stack.callback(answerer.close)
        for answerer in answerers.values():
            answer(answerer, mixed[: 4 * cores])  # until every actor has loaded its model
        for turn, start in enumerate(range(0, len(mixed), PART)):
            for way in list(ways)[:: -1 if turn % 2 else 1]:
                started = time.perf_counter()
                answer(answerers[way], mixed[start : start + PART])
                seconds[way].append(round(time.perf_counter() - started, 2))
                click.echo(f"{way}: {len(mixed[start : start + PART]) / seconds[way][-1]:.2f} rows/s", err=True)
    ray.shutdown()
    rates = {way: round(len(mixed) / sum(each), 2) for way, each in seconds.items()}
    facts = {
        "ray": ray.__version__,
        "rows": len(mixed),
        "rows_per_second": rates,
        "seconds_of_each_part": seconds,
        "gain": round(rates[_named(cores)] / rates[_named(1)], 3),
    }
    write_results(output, "cluster", facts)


def answer(answerer: Runtime | RayRuntime, rows: Iterable[Row]) -> None:
    """Submit all rows and wait for their answers."""
    for future in [answerer.submit(task, row) for task, row in rows]:
        future.result()


def _named(actors: int) -> str:
    return f"{actors} actor{'s' if actors > 1 else ''}"


if __name__ == "__main__":
    main()
