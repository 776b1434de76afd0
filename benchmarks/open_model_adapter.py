"""Claim: an adapter can be loaded beside an official GGUF file of Qwen2.5, and can be merged into such a file.

    python -m benchmarks.open_model_adapter --model qwen2.5-coder-0.5b-instruct-q4_k_m.gguf --data ../shared/data

The adapter has random weights and rank 4, for all matrices of all layers. So its answers mean nothing. The same rows
are answered in three ways: by the base, by the base with the adapter, and by an F16 file into which `convert` merged
the adapter.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.facts import write_results
from ecellm_lite import Answer, Runtime
from ecellm_lite.cli.main import run_command
from ecellm_lite.models.gguf_header import read_header
from tests.support.small_checkpoints import factors, write_adapter

TASK = "sentiment_analysis"
ENVELOPE = "qwen2.5"
SCALE = np.float32(0.4)


@click.command()
@click.option("--model", type=click.Path(exists=True, path_type=Path), required=True, help="A GGUF file of Qwen2.")
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--rows", "count", type=click.IntRange(1), default=50, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/open_model_adapter.json"))
def main(model: Path, data: Path, count: int, output: Path) -> None:
    """Answer the rows with the base, with base and adapter, and with the merged file, and compare the answers."""
    lines = (data / TASK / "test.jsonl").read_text("utf-8").splitlines()[:count]
    rows = [json.loads(line)["input"] for line in lines]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lora = random_adapter(folder / "lora", read_header(model).metadata)
        alone = ["--adapter-only", "-o", f"{name}/a.gguf"]
        into = ["--quant", "F16", "--envelope", ENVELOPE, "-o", f"{name}/merged.gguf"]
        for options in (alone, into):
            if code := run_command(["convert", str(model), "--lora", str(lora), "--quiet", *options]):
                raise SystemExit(code)
        with Runtime(model, adapters={"a": folder / "a.gguf"}, prefix_files=False) as runtime:
            base = list(runtime.answers(TASK, rows))
            beside = list(runtime.answers(TASK, rows, adapter="a"))
        with Runtime(folder / "merged.gguf", prefix_files=False) as runtime:
            merged = list(runtime.answers(TASK, rows))
    results = {
        "model": model.name,
        "task": TASK,
        "rows": count,
        "base_and_adapter": compared(base, beside),
        "adapter_and_merged": compared(beside, merged),
    }
    click.echo(json.dumps(results, indent=2), err=True)
    write_results(output, "open_model_adapter", results)


def random_adapter(folder: Path, metadata: Mapping[str, Any]) -> Path:
    """Write an adapter with random weights for a model of Qwen2's architecture, and return its folder."""
    width, inner = metadata["qwen2.embedding_length"], metadata["qwen2.feed_forward_length"]
    key = width // metadata["qwen2.attention.head_count"] * metadata["qwen2.attention.head_count_kv"]
    shapes = {
        "self_attn.q_proj": (width, width), "self_attn.k_proj": (key, width), "self_attn.v_proj": (key, width),
        "self_attn.o_proj": (width, width), "mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }  # fmt: skip
    tensors = {
        name: SCALE * values
        for layer in range(metadata["qwen2.block_count"])
        for module, shape in shapes.items()
        for name, values in factors(f"model.layers.{layer}.{module}", *shape, seed=layer).items()
    }
    return write_adapter(folder, tensors, target_modules=[module.rpartition(".")[2] for module in shapes])


def compared(some: Sequence[Answer], others: Sequence[Answer]) -> dict[str, Any]:
    """Return how many answers have the same text, and the mean absolute difference of their probabilities."""
    pairs = list(zip(some, others, strict=True))
    differences = [
        abs(share - (other.probabilities or {})[key])
        for one, other in pairs
        for key, share in (one.probabilities or {}).items()
    ]
    same = sum(one.text == other.text for one, other in pairs)
    return {"same_answers": same, "mean_difference_of_probabilities": round(float(np.mean(differences)), 5)}


if __name__ == "__main__":
    main()
