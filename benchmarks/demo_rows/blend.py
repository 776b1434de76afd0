"""Blends two adapters of the same shape: the weights of the result lie between theirs.

    python -m benchmarks.demo_rows.blend fifth/adapter tenth/adapter --share 0.8 -o blended

If an adapter is trained further, it may get better at new rows and worse at old ones. A blend of the adapters from
before and after this training can keep most of the gain and lose less.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import numpy as np
from safetensors.numpy import load_file, save_file

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@click.command()
@click.argument("first", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("second", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--share", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="How much of SECOND.")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True)
def main(first: Path, second: Path, share: float, output: Path) -> None:
    """Write an adapter whose weights are a weighted mean: SECOND's weight is `share`, FIRST's is 1 - `share`."""
    one, other = load_file(first / WEIGHTS), load_file(second / WEIGHTS)
    if {name: tensor.shape for name, tensor in one.items()} != {name: tensor.shape for name, tensor in other.items()}:
        raise SystemExit(f"{first} and {second} have different tensors; one must be trained further from the other.")
    output.mkdir(parents=True, exist_ok=True)
    blended = {
        name: (share * other[name].astype(np.float32) + (1 - share) * tensor.astype(np.float32)).astype(tensor.dtype)
        for name, tensor in one.items()
    }
    save_file(blended, output / WEIGHTS, metadata={"format": "pt"})
    shutil.copy(second / CONFIG, output / CONFIG)


if __name__ == "__main__":
    main()
