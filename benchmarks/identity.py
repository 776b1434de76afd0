"""Checks that the kernels quantize to the same bytes as ggml.

    python -m benchmarks.identity

Weights of every kind (tests/support/weights.py) are quantized to each type, by each variant of the kernels and by
ggml's quantizer. The blocks are compared byte for byte. For K-quants, half of the weights have an imatrix. The other
types are tested without an imatrix only: Q8_0 ignores an imatrix, and for the rest, the converter uses the kernels only
if there is no imatrix.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np

from benchmarks.facts import write_results
from ecellm_lite import ggml_quantizer
from ecellm_lite.engine.settings import available_cores
from ecellm_lite.kernels import Block, native
from ecellm_lite.tensor_types import CONVERTED, K_QUANTS, SHORT_QUANTS
from tests.support.weights import KINDS, weights_of

ROWS, COLUMNS = 34, 4096  # in one piece: two rows of each kind


@click.command()
@click.option("--weights", type=click.IntRange(1), default=100_000_000, show_default=True, help="For each type.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/identity.json"))
def main(weights: int, seed: int, output: Path) -> None:
    """Quantize random weights with the kernels and with ggml, and write how many of the blocks differ."""
    pieces = -(-weights // (ROWS * COLUMNS))
    counts = {
        kind: {variant: {"weights": 0, "blocks_that_differ": 0} for variant in native.variants()}
        for kind in (*SHORT_QUANTS, *K_QUANTS)
    }
    with ThreadPoolExecutor(available_cores()) as pool:
        for kind, counted in counts.items():
            for differing in pool.map(lambda piece: compare(kind, seed, piece), range(pieces)):  # noqa: B023
                for variant, blocks in differing.items():
                    counted[variant]["weights"] += ROWS * COLUMNS
                    counted[variant]["blocks_that_differ"] += blocks
            click.echo(f"{kind}: {counted}", err=True)
    write_results(output, "identity", {"seed": seed, "kinds": KINDS, "types": counts})


def compare(kind: str, seed: int, piece: int) -> dict[str, int]:
    """Quantize one piece of the random weights, and return how many blocks of each variant differ from ggml's.

    `piece`: the piece's number. If it is odd, and `kind` is a K-quant, an imatrix is used.
    """
    generator = np.random.default_rng([seed, piece])
    rows = np.stack([weights_of(KINDS[row % len(KINDS)], COLUMNS, generator) for row in range(ROWS)])
    weighed = kind in K_QUANTS and piece % 2
    importance = np.abs(weights_of(KINDS[piece // 2 % len(KINDS)], COLUMNS, generator)) if weighed else None
    blocks = ggml_quantizer.quantize_chunk(rows, CONVERTED[kind], importance).reshape(-1, CONVERTED[kind].block_bytes)
    conversion = Block(rows, "F32", kind, importance=importance)
    return {
        variant: int((native.convert(conversion, variant=variant).reshape(blocks.shape) != blocks).any(axis=1).sum())
        for variant in native.variants()
    }


if __name__ == "__main__":
    main()
