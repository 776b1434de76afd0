"""Claim: the prompt kernels read prompts of any length at least as fast as llama.cpp, and more exactly.

    python -m benchmarks.prompts

Prompts of 1 to 512 tokens are each read in one call of `llama_decode`. Each prompt is read in several ways,
alternately:

- by the prompt kernels;
- by llama.cpp, with the file's weights as they are;
- by llama.cpp, with the weights repacked for its own kernels;
- with `--ik-python`, also by ik_llama.cpp.

One model is SmolLM2-135M (the demo). The other models have random weights and a few layers, each as large as a layer
of a 1B or 7B model. Each model is measured in several file types.

Rates are medians. With one thread, they are based on processor time, which other programs hardly affect.

For the demo, the results also say how exact each way is. The exact probabilities come from the same model in F32. The
results have the Kullback-Leibler divergence of each way's probabilities from the exact ones.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import click
import gguf
import numpy as np
from numpy.typing import NDArray

from benchmarks.chart import Group, draw
from benchmarks.facts import write_results
from benchmarks.peers.ik_llama import IkLlama
from ecellm_lite.demo.build import ensure_demo
from ecellm_lite.engine.interface import Chunk
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.settings import Settings, available_cores
from ecellm_lite.models.files import replacing
from ecellm_lite.models.store import Store
from tests.support.llama_quantize import requantize
from tests.support.tiny_models import write_tiny_model

TYPES = ("Q8_0", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K")
SIZES = (1, 4, 8, 16, 32, 64, 128, 256, 512)

# Width, feed-forward width, heads, KV heads, and as many layers as fit in half a gigabyte.
SHAPES = {"1B": (2048, 5632, 32, 8, 8), "7B": (4096, 11008, 32, 32, 3)}


class Plain(LlamaBackend):
    """A backend of llama.cpp that leaves the file's weights as they are, instead of repacking them."""

    repacks = False


@click.command()
@click.option("--sizes", default=",".join(map(str, SIZES)), show_default=True, help="Prompt lengths in tokens.")
@click.option("--types", default=",".join(TYPES), show_default=True)
@click.option("--shapes", default="135M,1B,7B", show_default=True)
@click.option("--turns", type=click.IntRange(1), default=9, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=available_cores(), show_default="one per core")
@click.option("--models", "folder", type=click.Path(path_type=Path), help="Where the models are made and kept.")
@click.option("--ik-python", type=click.Path(exists=True, path_type=Path), help="A Python with ik-llama-cpp-python.")
@click.option("--make", is_flag=True, help="Only make the models.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/prompts.json"))
@click.option("--figure", type=click.Path(path_type=Path), default=Path("benchmarks/figures/prompts.svg"))
def main(
    sizes: str,
    types: str,
    shapes: str,
    turns: int,
    threads: int,
    folder: Path | None,
    ik_python: Path | None,
    make: bool,
    output: Path,
    figure: Path,
) -> None:
    """Measure each model and write the rates. The output file keeps the results of models that are not measured now."""
    counts = [int(size) for size in sizes.split(",")]
    settings = Settings(context=1024, threads=threads, gpu_layers=0, micro_batch=max(256, *counts))
    models: dict[str, Any] = json.loads(output.read_text("utf-8"))["models"] if output.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        for shape, kind in product(shapes.split(","), types.split(",")):
            path = model(shape, kind, folder or Path(temporary))
            if make:
                continue
            divergence = divergences(path, settings) if shape == "135M" else None
            rates, variant = measure(path, settings, counts, turns, ik_python)
            of_lengths = {**models.get(f"{shape} {kind}", {}).get("sizes", {}), **rates}
            all_rates = dict(sorted(of_lengths.items(), key=lambda item: int(item[0])))
            models[f"{shape} {kind}"] = {
                "variant": variant, "threads": threads, "turns": turns, "divergence": divergence, "sizes": all_rates,
            }  # fmt: skip
            write_results(output, "prompts", {"models": models})
            times = {size: one["times"] for size, one in rates.items()}
            click.echo(f"{shape} {kind}: {times}", err=True)
    if not make and all("256" in one["sizes"] for one in models.values()):
        with replacing(figure) as new:
            new.write_text(picture(models), "utf-8")


def model(shape: str, kind: str, folder: Path) -> Path:
    """Return the path of a model of this shape in the file type `kind`. The model is made if it is missing.

    `shape`: "135M" is the demo. "1B" and "7B" are models with random weights.
    """
    path = folder / f"{shape}-{kind}.gguf"
    if not path.exists():
        requantize(source(shape, folder), path, kind)
        if shape == "135M":
            requantize(path, folder / f"{shape}-{kind}-f32.gguf", "F32")
    return path


def source(shape: str, folder: Path) -> Path:
    """Return the path of an unquantized model of this shape. The model is made if it is missing."""
    if shape == "135M":
        return ensure_demo(Store(), threads=available_cores()).path
    embedding, feed_forward, heads, heads_kv, layers = SHAPES[shape]
    path = folder / f"{shape}.gguf"
    if path.exists():
        return path
    return write_tiny_model(
        path,
        layers=layers,
        embedding=embedding,
        heads=heads,
        heads_kv=heads_kv,
        feed_forward=feed_forward,
        context=1024,
        quantization=gguf.GGMLQuantizationType.F16,
    )


def backends(path: Path, settings: Settings) -> dict[str, LlamaBackend]:
    """Load the model once for each way to read a prompt. Returns the loaded backends, by the names of the ways."""
    stock = replace(settings, prompt_kernels="off")
    return {
        "prompt kernels": LlamaBackend(path, settings),
        "llama.cpp": Plain(path, stock),
        "llama.cpp, repacked": LlamaBackend(path, stock),
    }


def measure(
    path: Path, settings: Settings, sizes: Sequence[int], turns: int, ik_python: Path | None
) -> tuple[dict[str, Any], str]:
    """Return the results for each prompt size, and the name of the prompt kernels' variant.

    A result has the tokens per second of each way to read a prompt. Its `times` is the prompt kernels' rate divided by
    the higher one of llama.cpp's two rates: with repacked weights, and without.
    """
    ways = backends(path, settings)
    fork = IkLlama(ik_python, path, settings.threads or 1, settings.micro_batch) if ik_python else None
    names = [*ways, "ik_llama.cpp"] if fork else list(ways)
    clock = time.process_time if settings.threads == 1 else time.perf_counter
    generator = np.random.default_rng(0)
    results: dict[str, Any] = {}
    try:
        for size in sizes:
            tokens = generator.integers(3, ways["llama.cpp"].vocabulary.size, size).tolist()
            seconds: dict[str, list[float]] = {way: [] for way in names}
            for turn in range(turns + 1):  # the first warms up
                for way in names if turn % 2 else reversed(names):
                    if fork and way not in ways:
                        seconds[way].append(fork.seconds(tokens))
                        continue
                    ways[way].clear()
                    started = clock()
                    ways[way].decode([Chunk(sequence=0, position=0, tokens=tokens, ask=1)])
                    seconds[way].append(clock() - started)
            rates = {way: round(size / median(each[1:]), 1) for way, each in seconds.items()}
            best = max(rates["llama.cpp"], rates["llama.cpp, repacked"])
            results[str(size)] = {"tokens_per_second": rates, "times": round(rates["prompt kernels"] / best, 2)}
        return results, ways["prompt kernels"].prompt_kernels.variant
    finally:
        for backend in ways.values():
            backend.close()
        if fork:
            fork.close()


def divergences(path: Path, settings: Settings) -> dict[str, float]:
    """Return, for each way to read a prompt, the mean KL divergence of its probabilities from exact ones, in nats.

    The exact probabilities come from the same model in F32. The divergence is measured at the last 200 positions of a
    prompt of 256 tokens.
    """
    chunk = Chunk(sequence=0, position=0, tokens=np.random.default_rng(1).integers(3, 9000, 256).tolist(), ask=200)
    exact = LlamaBackend(path.with_name(f"{path.stem}-f32.gguf"), replace(settings, prompt_kernels="off"))
    ways = backends(path, settings)
    try:
        reference = log_softmax(np.asarray(exact.decode([chunk])[0]))
        means = {}
        for way, backend in ways.items():
            logits = log_softmax(np.asarray(backend.decode([chunk])[0]))
            means[way] = float((np.exp(reference) * (reference - logits)).sum(axis=1).mean())
        return means
    finally:
        for backend in (exact, *ways.values()):
            backend.close()


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the log-probabilities of logits (positions, vocabulary), in the same shape."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def picture(models: Mapping[str, Any]) -> str:
    """Return an SVG chart of the speed of reading 256 tokens, relative to llama.cpp without repacked weights."""
    measured = [one["sizes"]["256"]["tokens_per_second"] for one in models.values()]
    legend = [way for way in measured[0] if all(way in rates for rates in measured)]
    groups = []
    for name, one in models.items():
        rates = one["sizes"]["256"]["tokens_per_second"]
        bars = [(rates[way] / rates["llama.cpp"], f"{rates[way]:,.0f} tokens/s") for way in legend]
        groups.append(Group(name, bars))
    return draw("Reading a prompt of 256 tokens", "As multiples of llama.cpp's rate.", legend, groups, 110)


if __name__ == "__main__":
    main()
