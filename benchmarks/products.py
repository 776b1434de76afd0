"""Claim: the prompt kernels multiply matrices at more than half of the rate at which the processor can multiply.

    python -m benchmarks.products --types Q8_0,Q4_0,Q4_K_M,Q5_K_M,Q6_K

Needs a C++ compiler and an x86-64 processor with AVX2. A product is a multiplication here, not an article. On one core,
three things are timed alternately:

- the peak: multiplications of numbers that are in registers already, without scales (peers/register_peak.cpp);
- the matrix products: each of a model's matrices times 256 columns, by the prompt kernels;
- a prompt of 256 tokens, read by the prompt kernels and by llama.cpp.

The results say how much of a prompt's time the matrix products take. They also have a limit: how fast a prompt would be
read if its multiplications ran at the peak and nothing else took time. No kernel with these instructions can be faster.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.facts import write_results
from benchmarks.prompts import TYPES, backends, model
from ecellm_lite.engine.interface import Chunk
from ecellm_lite.engine.settings import Settings
from ecellm_lite.kernels.prompt import library
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.tensor_types import TensorType

COLUMNS = 256
PEAK = Path(__file__).parent / "peers" / "register_peak.cpp"
# Types that the kernels do not multiply as bytes.
INSTRUCTIONS = {"Q8_0": "words", "F16": "floats", "BF16": "floats"}


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix of a model, and the random columns that it is multiplied by.

    - `blocks`: the weights, in the shape (rows, bytes of a row).
    - `columns`: float32, in the shape (COLUMNS, depth).
    - `count`: how many matrices with this type and shape the model has.
    """

    type: TensorType
    blocks: NDArray[np.uint8]
    columns: NDArray[np.float32]
    count: int

    @property
    def instructions(self) -> str:
        """The kind of numbers that the kernels multiply for this type: `words` (16 bits), `bytes` (8) or `floats`."""
        return INSTRUCTIONS.get(self.type.name, "bytes")

    @property
    def products(self) -> int:
        """How many multiplications of two numbers it takes to multiply the matrix by `columns`."""
        return len(self.blocks) * self.columns.size

    def multiply(self, variant: str) -> None:
        """Multiply the weights by `columns` with a variant of the kernels, on one core."""
        library.multiply(self.blocks, self.type, self.columns, variant=variant)


@click.command()
@click.option("--types", default=",".join(TYPES), show_default=True)
@click.option("--shapes", default="1B,7B", show_default=True)
@click.option("--turns", type=click.IntRange(1), default=9, show_default=True)
@click.option("--models", "folder", type=click.Path(path_type=Path), help="Where the models are made and kept.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/products.json"))
def main(types: str, shapes: str, turns: int, folder: Path | None, output: Path) -> None:
    """Measure each model and write the rates."""
    models: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        program = Path(temporary) / "peak"
        subprocess.run(["c++", "-O2", str(PEAK), "-o", str(program)], check=True)
        for shape, kind in product(shapes.split(","), types.split(",")):
            models[f"{shape} {kind}"] = facts = measure(model(shape, kind, folder or Path(temporary)), program, turns)
            write_results(output, "products", {"turns": turns, "models": models})
            click.echo(f"{shape} {kind}: {json.dumps(facts)}", err=True)


def measure(path: Path, program: Path, turns: int) -> dict[str, Any]:
    """Time a model's matrix products and the reading of a prompt, and return the results.

    The results include the products' rates as fractions of the processor's peak rate, and the tokens per second.
    `limit_times` is the ideal speed of reading a prompt, divided by llama.cpp's best speed. At the ideal speed, the
    multiplications run at the peak rate and nothing else takes time.
    """
    settings = Settings(context=512, threads=1, gpu_layers=0, micro_batch=COLUMNS)
    ways = backends(path, settings)
    matrices = matrices_of(path)
    tokens = np.random.default_rng(0).integers(3, ways["llama.cpp"].vocabulary.size, COLUMNS).tolist()
    chunk = Chunk(sequence=0, position=0, tokens=tokens, ask=1)
    variant = ways["prompt kernels"].prompt_kernels.variant
    seconds: dict[Any, list[float]] = {}
    peaks: dict[str, float] = {}
    try:
        for _turn in range(turns + 1):  # the first warms up
            peaks = {way: max(rate, peaks.get(way, 0)) for way, rate in register_peaks(program, variant).items()}
            for name, way in ways.items():
                way.clear()
                seconds.setdefault(name, []).append(timed(partial(way.decode, [chunk])))
            for key, matrix in matrices.items():
                seconds.setdefault(key, []).append(timed(partial(matrix.multiply, variant)))
    finally:
        for way in ways.values():
            way.close()
    medians = {key: median(each[1:]) for key, each in seconds.items()}
    in_products = sum(matrix.count * medians[key] for key, matrix in matrices.items())
    at_peak = sum(matrix.count * matrix.products / peaks[matrix.instructions] for matrix in matrices.values())
    rates = {name: COLUMNS / medians[name] for name in ways}
    best = max(rates["llama.cpp"], rates["llama.cpp, repacked"])
    return {
        "variant": variant,
        "peak_billion_products_per_second": {way: round(rate / 1e9, 2) for way, rate in peaks.items()},
        "of_peak": {
            key: round(matrix.products / medians[key] / peaks[matrix.instructions], 3)
            for key, matrix in matrices.items()
        },
        "tokens_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "products_share_of_prompt": round(in_products / medians["prompt kernels"], 3),
        "prompt_of_peak": round(at_peak / medians["prompt kernels"], 3),
        "times": round(rates["prompt kernels"] / best, 2),
        "limit_times": round(COLUMNS / at_peak / best, 2),
    }


def matrices_of(path: Path) -> dict[str, Matrix]:
    """Return one of a model's matrices for each type and shape. The keys are texts such as "Q8_0 1536 x 576".

    The output matrix and the last layer's feed-forward matrices are left out, because llama.cpp multiplies them by the
    last token only.
    """
    header = read_header(path)
    layers = 1 + max(int(tensor.name.split(".")[1]) for tensor in header.tensors if tensor.name.startswith("blk."))
    tensors = [
        tensor
        for tensor in header.tensors
        if tensor.name.startswith("blk.")
        and len(tensor.shape) == 2
        and not tensor.name.startswith(f"blk.{layers - 1}.ffn")
    ]
    keys = [f"{tensor.type.name} {tensor.shape[1]} x {tensor.shape[0]}" for tensor in tensors]
    counts = Counter(keys)
    generator = np.random.default_rng(0)
    matrices = {}
    for key, tensor in zip(keys, tensors, strict=True):
        depth, rows = tensor.shape
        data = np.fromfile(path, np.uint8, tensor.size, offset=header.data_offset + tensor.offset)
        columns = generator.standard_normal((COLUMNS, depth), np.float32)
        matrices[key] = Matrix(tensor.type, data.reshape(rows, -1), columns, counts[key])
    return matrices


def register_peaks(program: Path, variant: str) -> dict[str, float]:
    """Return the peak rate of one core, in multiplications per second, for each kind of numbers.

    The kinds are `words` (16-bit integers), `bytes` (8-bit integers) and `floats` (float32).

    `program`: the compiled register_peak.cpp. It uses the instructions of the kernels' `variant`.
    """
    lines = subprocess.run([str(program), variant], check=True, capture_output=True, text=True).stdout.splitlines()
    return {way: float(rate) * 1e9 for way, rate in map(str.split, lines)}


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of processor time that the work takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
