"""Claim: the kernels quantize many times faster than ggml, and write the same bytes.

    python -m benchmarks.quantize

Normally distributed weights, like a model's, are quantized to each K-quant, with and without an imatrix. They are also
quantized to the types that need no search for scales. This is done in three ways, alternately: by ggml's quantizer, by
each variant of the kernels on one core, and by the best variant on all cores. Rates are medians.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from benchmarks.chart import Group, draw
from benchmarks.facts import write_results
from ecellm_lite.engine.settings import available_cores
from ecellm_lite.ggml_quantizer import quantize_chunk
from ecellm_lite.kernels import Block, Factors, native
from ecellm_lite.models.files import replacing
from ecellm_lite.tensor_types import CONVERTED, K_QUANTS, SHORT_QUANTS

COLUMNS = 4096
RANK = 16


@click.command()
@click.option("--rows", type=click.IntRange(1), default=512, show_default=True, help="Rows of 4,096 weights.")
@click.option("--repeats", type=click.IntRange(1), default=7, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/quantize.json"))
@click.option("--figure", type=click.Path(path_type=Path), default=Path("benchmarks/figures/quantize.svg"))
def main(rows: int, repeats: int, output: Path, figure: Path) -> None:
    """Measure ggml's quantizer and the kernels for each type, and write the rates."""
    generator = np.random.default_rng(0)
    weights = generator.normal(0, 0.02, (rows, COLUMNS)).astype(np.float32)
    importance = generator.random(COLUMNS, dtype=np.float32) + np.float32(0.1)
    cores = available_cores()
    results: dict[str, Any] = {}
    # With an imatrix, the other types are quantized by ggml itself.
    unsearched = [(kind, None) for kind in (*SHORT_QUANTS, "F16", "BF16")]
    for kind, imatrix in [*product(K_QUANTS, (None, importance)), *unsearched]:
        conversion = Block(weights, "F32", kind, importance=imatrix)
        best = native.variants()[0]
        ways: dict[str, Callable[[], Any]] = {"ggml": partial(quantize_chunk, weights, CONVERTED[kind], imatrix)}
        for variant in native.variants():
            ways[variant] = partial(native.convert, conversion, variant=variant)
        ways[f"{best}, {cores} cores"] = partial(native.convert, conversion, variant=best, threads=cores)
        name = f"{kind}{'' if imatrix is None else ' with imatrix'}"
        results[name] = measure(ways, weights.size, repeats)
        click.echo(f"{name}: {results[name]['times_ggml']}", err=True)
    facts = {
        "weights": int(weights.size),
        "repeats": repeats,
        "types": results,
        "merge": merging(weights, repeats),
        "times_one_core": {kind: threading(np.tile(weights, (4, 1)), kind, cores, repeats) for kind in K_QUANTS},
    }
    write_results(output, "quantize", facts)
    with replacing(figure) as temporary:
        temporary.write_text(picture(facts), "utf-8")


def picture(facts: dict[str, Any]) -> str:
    """Return an SVG bar chart of each variant's speed with each K-quant, as a multiple of ggml's speed."""
    types = {name: one for name, one in facts["types"].items() if name.split()[0] in K_QUANTS}
    legend = [way for way in next(iter(types.values()))["times_ggml"] if way != "ggml"]
    groups = [
        Group(name, [(one["times_ggml"][way], f"\u00d7 {one['times_ggml'][way]:.1f}") for way in legend])
        for name, one in types.items()
    ]
    return draw(
        "Quantizing: times as fast as ggml", "One core unless it says otherwise; the same bytes.", legend, groups, 150
    )


def measure(ways: dict[str, Callable[[], Any]], weights: int, repeats: int) -> dict[str, Any]:
    """Run several functions alternately, and return the rate of each.

    A rate is given in million weights per second, and as a multiple of the first function's rate.
    """
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, run in ways.items():
            started = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - started)
    first = next(iter(ways))
    return {
        "million_weights_per_second": {way: round(weights / median(each) / 1e6, 1) for way, each in seconds.items()},
        # The median of the turns' ratios, because whatever slows the machine during a turn slows both ways.
        f"times_{first}": {
            way: round(median(base / one for base, one in zip(seconds[first], each, strict=True)), 2)
            for way, each in seconds.items()
        },
    }


def threading(weights: np.ndarray[Any, np.dtype[np.float32]], kind: str, cores: int, repeats: int) -> float:
    """Return how many times faster the kernels quantize on all cores than on one core.

    The result is the median of the repeats.
    """
    run = partial(native.convert, Block(weights, "F32", kind), variant=native.variants()[0])
    ratios = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        between = time.perf_counter()
        run(threads=cores)
        ratios.append((between - started) / (time.perf_counter() - between))
    return round(median(ratios), 2)


def merging(weights: np.ndarray[Any, np.dtype[np.float32]], repeats: int) -> dict[str, Any]:
    """Measure how fast bfloat16 rows are converted to Q4_K, without an adapter and while an adapter is merged in."""
    generator = np.random.default_rng(1)
    rows, columns = weights.shape
    bits = (weights.view(np.uint32) >> 16).astype(np.uint16)
    adapter = Factors(
        generator.normal(0, 0.02, (RANK, columns)).astype(np.float32),
        generator.normal(0, 0.02, (rows, RANK)).astype(np.float32),
    )
    variant = native.variants()[0]
    ways: dict[str, Callable[[], Any]] = {
        name: partial(native.convert, conversion, variant=variant)
        for name, conversion in (
            ("plain", Block(bits, "BF16", "Q4_K")),
            (f"adapter of rank {RANK}", Block(bits, "BF16", "Q4_K", (adapter,))),
        )
    }
    return measure(ways, weights.size, repeats)


if __name__ == "__main__":
    main()
