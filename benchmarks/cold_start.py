"""Claim: a new process that finds the instruction's state on disk reads only the row.

    python -m benchmarks.cold_start

After reading an instruction, a process saves the model's state to a folder. The next process loads this state and need
not read the instruction.

Here processes are started in pairs, and each process answers one row. The first of a pair finds the folder empty, and
the second finds the state in it. The results have the seconds of the whole process, and of answering the row alone.

The models are the demo and a model of Mistral-7B's shape. The large model has random weights: its times are realistic,
but its answers are meaningless. Its file (Q4_0, about 4 GB) is written for the benchmark and then removed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
import gguf
import numpy as np

from benchmarks.facts import write_results
from ecellm_lite.demo.build import ensure_demo
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.store import Store

ROW = {"review": "Works, but it is loud, and the lid feels flimsy."}
LAYERS, EMBEDDING, FEED_FORWARD, HEADS, HEADS_KV = 32, 4096, 14336, 32, 8  # Mistral-7B
Q4_0 = gguf.GGMLQuantizationType.Q4_0
BLOCK = 32


@click.command()
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--large/--no-large", default=True, show_default=True, help="Also the model of Mistral-7B's shape.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/cold_start.json"))
def main(repeats: int, large: bool, output: Path) -> None:
    """Measure how soon a new process answers, with and without the instruction's state on the disk.

    Writes the results.
    """
    store = Store()
    demo = ensure_demo(store)
    results = {"demo": measure(demo.path, store.root, repeats)}
    click.echo(json.dumps(results["demo"]), err=True)
    if large:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "mistral-7b-shape.gguf"
            write_model(path, demo.path)
            results["Mistral-7B's shape"] = measure(path, Path(folder), repeats)
            click.echo(json.dumps(results["Mistral-7B's shape"]), err=True)
    write_results(output, "cold_start", {"models": results})


def measure(model: Path, home: Path, repeats: int) -> dict[str, Any]:
    """Start new processes that answer one row each. Return the median seconds of "cold" and of "warm" processes.

    A "cold" process finds no saved state of the instruction on the disk, and a "warm" process finds it. In the
    result, `found_on_disk` is the number of prompt tokens that this state covers.
    """
    start(model, home)  # stores the file's hash, and brings the file into the page cache
    seconds: dict[str, dict[str, list[float]]] = {name: {"process": [], "row": []} for name in ("cold", "warm")}
    tokens: dict[str, Any] = {}
    for _ in range(repeats):
        shutil.rmtree(home / "prefixes", ignore_errors=True)
        for name, each in seconds.items():
            began = time.perf_counter()
            answer = start(model, home)
            each["process"].append(round(time.perf_counter() - began, 3))
            each["row"].append(round(answer["seconds"], 3))
            tokens[name] = answer["usage"]
    [prefix] = (home / "prefixes").rglob("*.prefix")
    return {
        **{name: {part: median(values) for part, values in each.items()} for name, each in seconds.items()},
        "each_repeat": seconds,
        "prompt_tokens": tokens["warm"]["prompt_tokens"],
        "found_on_disk": tokens["warm"]["cached_tokens"],
        "file_bytes": prefix.stat().st_size,
    }


def start(model: Path, home: Path) -> dict[str, Any]:
    """Run `ecellm-lite run` for one row in a new process, and return the answer."""
    program = "from ecellm_lite.cli.main import main; main()"
    options = ["--model", str(model), "--envelope", "alpaca", "--task", "SA", "--input", json.dumps(ROW), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", program, "run", *options],
        env={**os.environ, "ECELLM_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def write_model(path: Path, vocabulary_of: Path) -> None:
    """Write a llama model of Mistral-7B's shape with random weights and the vocabulary of another file."""
    header = read_header(vocabulary_of)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(4096)
    writer.add_embedding_length(EMBEDDING)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS_KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    for key, value in header.metadata.items():
        if key.startswith("tokenizer.ggml."):
            plain = (
                value.tolist() if isinstance(value, np.ndarray) else list(value) if isinstance(value, tuple) else value
            )
            kind = gguf.GGUFValueType.UINT32 if isinstance(plain, int) and not isinstance(plain, bool) else None
            writer.add_key_value(key, plain, kind or gguf.GGUFValueType.get_type(plain))
    tokens = header.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, tuple)
    key_value = EMBEDDING // HEADS * HEADS_KV
    shapes = {"token_embd.weight": (len(tokens), EMBEDDING), "output.weight": (len(tokens), EMBEDDING)}
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.attn_q.weight": (EMBEDDING, EMBEDDING),
            f"blk.{layer}.attn_k.weight": (key_value, EMBEDDING),
            f"blk.{layer}.attn_v.weight": (key_value, EMBEDDING),
            f"blk.{layer}.attn_output.weight": (EMBEDDING, EMBEDDING),
            f"blk.{layer}.ffn_gate.weight": (FEED_FORWARD, EMBEDDING),
            f"blk.{layer}.ffn_up.weight": (FEED_FORWARD, EMBEDDING),
            f"blk.{layer}.ffn_down.weight": (EMBEDDING, FEED_FORWARD),
        }
    norms = ["output_norm.weight"]
    norms += [f"blk.{layer}.{part}_norm.weight" for layer in range(LAYERS) for part in ("attn", "ffn")]
    for name, (rows, columns) in shapes.items():
        size = rows * columns // BLOCK * 18
        writer.add_tensor_info(name, (rows, columns // BLOCK * 18), np.dtype(np.uint8), size, raw_dtype=Q4_0)
    ones = np.ones(EMBEDDING, dtype=np.float32)
    for name in norms:
        writer.add_tensor_info(name, ones.shape, ones.dtype, ones.nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for rows, columns in shapes.values():
        writer.write_tensor_data(random_blocks(rows, columns))
    for _ in norms:
        writer.write_tensor_data(ones)
    writer.close()


def random_blocks(rows: int, columns: int) -> Any:
    """Return random Q4_0 blocks, as bytes of the shape (rows, bytes per row).

    The weights are small, as in an untrained model.
    """
    blocks = np.random.default_rng(0).integers(0, 256, (rows, columns // BLOCK, 18), dtype=np.uint8)
    blocks[:, :, :2] = np.array([1 / (4 * columns**0.5)], dtype="<f2").view(np.uint8)
    return blocks.reshape(rows, -1)


if __name__ == "__main__":
    main()
