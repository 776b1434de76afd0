"""Claim: converting a checkpoint and an adapter in one pass is many times faster than in three steps.

    python -m benchmarks.convert --llama-cpp vendor/llama.cpp --python ENVIRONMENT/bin/python

The single pass also needs little memory. The checkpoint has a published shape and random bfloat16 weights. An adapter
of rank 16 changes all matrices except the embedding. The checkpoint and the adapter are converted to one Q4_K_M file in
two ways:

- ours: `ecellm-lite convert`;
- the usual chain: transformers and peft load, merge and save; convert_hf_to_gguf.py writes a 16-bit GGUF file;
  llama.cpp's quantizer quantizes it with as many threads as ours.

All processes run one after the other, with their inputs already in the page cache. For each process, the results have
the seconds, the peak resident memory and the bytes written.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.chart import Group, draw
from benchmarks.facts import write_results
from ecellm_lite.engine.settings import available_cores
from ecellm_lite.models.files import replacing
from tests.support.tiny_tokenizers import write_mistral_model, write_smollm_tokenizer

RANK = 16
LOOK = 0.02  # seconds between two readings of a process's memory
SHARD = 5_000_000_000  # bytes, as transformers saves them
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head")


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a checkpoint, as in its config.json.

    - `rotation`: the settings of the rotary embedding.
    - `write_tokenizer`: a function that writes a real tokenizer. The tokenizer has at most `vocabulary` tokens. It may
      be the tokenizer of another model.
    """

    architecture: str
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int = 32000
    query_norms: bool = False
    rotation: Mapping[str, Any] = field(default_factory=lambda: {"rope_theta": 10000.0})
    write_tokenizer: Callable[[Path], None] = write_mistral_model


LLAMA_3_ROTATION = {
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}  # fmt: skip


SHAPES = {
    "eCeLLM-M": Shape("Mistral", 4096, 14336, 32, 32, 8),
    "eCeLLM-L": Shape("Llama", 5120, 13824, 40, 40, 40),
    "Llama-3.1-8B": Shape(
        "Llama", 4096, 14336, 32, 32, 8, 128256,
        rotation=LLAMA_3_ROTATION, write_tokenizer=write_smollm_tokenizer,
    ),
    "Qwen3-8B": Shape(
        "Qwen3", 4096, 12288, 36, 32, 8, 151936,
        query_norms=True, rotation={"rope_theta": 1000000.0}, write_tokenizer=write_smollm_tokenizer,
    ),
    "small": Shape("Mistral", 1024, 2816, 4, 16, 4),
}  # fmt: skip

MERGE = """
import sys, torch
from transformers import AutoModelForCausalLM
from peft import PeftModel
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], torch_dtype=torch.bfloat16)
PeftModel.from_pretrained(model, sys.argv[2]).merge_and_unload().save_pretrained(sys.argv[3])
"""

QUANTIZE = """
import sys
from pathlib import Path
from tests.support.llama_quantize import requantize
requantize(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], threads=int(sys.argv[4]))
"""


@click.command()
@click.option("--shape", "name", type=click.Choice(list(SHAPES)), default="eCeLLM-M", show_default=True)
@click.option("--layers", type=click.IntRange(1), help="Fewer layers than the shape has, to need less disk.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("/tmp/ecellm-convert"), show_default=True)
@click.option("--llama-cpp", type=click.Path(exists=True, path_type=Path), help="llama.cpp's source, for the chain.")
@click.option(
    "--python",
    "python",
    type=click.Path(exists=True),
    help="A Python with torch, transformers and peft, for the chain.",
)
@click.option("--file-type", default="Q4_K_M", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="[default: one per core]")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/convert.json"))
@click.option("--figure", type=click.Path(path_type=Path), default=Path("benchmarks/figures/convert.svg"))
def main(
    name: str,
    layers: int | None,
    folder: Path,
    llama_cpp: Path | None,
    python: str | None,
    file_type: str,
    threads: int | None,
    output: Path,
    figure: Path,
) -> None:
    """Make the checkpoint, convert it with `ecellm-lite` and with llama.cpp's own tools, and write the results."""
    cores = threads or available_cores()
    folder.mkdir(parents=True, exist_ok=True)
    shape = replace(SHAPES[name], layers=layers or SHAPES[name].layers)
    base, adapter = folder / f"{name}-{shape.layers}", folder / f"{name}-{shape.layers}-adapter"
    size = make_checkpoint(base, adapter, shape)
    warm(base)
    ours = folder / "ours.gguf"
    command = [
        str(Path(sys.executable).with_name("ecellm-lite")),
        "convert",
        str(base),
        "--lora",
        str(adapter),
        "--quant",
        file_type,
    ]
    steps = {"ecellm-lite": run([*command, "-o", str(ours), "--envelope", "alpaca", "--threads", str(cores)], folder)}
    result = ours.stat().st_size
    ours.unlink()
    say(steps)
    if llama_cpp and python:
        merged, wide, small = folder / "merged", folder / "wide.gguf", folder / "chain.gguf"
        warm(base)
        steps["transformers and peft"] = run([python, "-c", MERGE, str(base), str(adapter), str(merged)], folder)
        shape.write_tokenizer(merged)
        say(steps)
        script = str(llama_cpp / "convert_hf_to_gguf.py")
        steps["convert_hf_to_gguf.py"] = run(
            [python, script, str(merged), "--outtype", "bf16", "--outfile", str(wide)], folder
        )
        shutil.rmtree(merged)
        say(steps)
        steps["llama.cpp's quantizer"] = run(
            [sys.executable, "-c", QUANTIZE, str(wide), str(small), file_type, str(cores)], folder
        )
        wide.unlink()
        say(steps)
        small.unlink()
    chain = {step: each for step, each in steps.items() if step != "ecellm-lite"}
    results: dict[str, Any] = {
        "shape": name,
        "layers": shape.layers,
        "rank": RANK,
        "file_type": file_type,
        "threads": cores,
        "checkpoint_bytes": size,
        "result_bytes": result,
        "steps": steps,
        "written_over_the_result": round(steps["ecellm-lite"]["written"] / result, 4),
    }
    if chain:
        seconds = sum(each["seconds"] for each in chain.values())
        results |= {
            "chain_seconds": round(seconds, 1),
            "chain_peak_memory": max(each["peak_memory"] for each in chain.values()),
            "chain_written": sum(each["written"] for each in chain.values()),
            "times_faster": round(seconds / steps["ecellm-lite"]["seconds"], 2),
        }
        with replacing(figure) as temporary:
            temporary.write_text(picture(results), "utf-8")
    write_results(output, "convert", results)
    click.echo(json.dumps(results, indent=2))


def run(command: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run a command. Return its seconds, processor seconds, peak memory in bytes and the bytes it added to the folder.

    Files that the command deletes again are not counted. No command here makes a large temporary file.
    """
    before = used(folder)
    started = time.perf_counter()
    process = psutil.Popen(list(command))
    peak = 0
    cpu = 0.0
    while process.poll() is None:
        # The kernel's own high-water mark; wait4's value includes that of the process that started the command.
        with suppress(OSError, psutil.Error, StopIteration):
            status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
            peak = max(peak, 1024 * int(next(line for line in status.splitlines() if "VmHWM" in line).split()[1]))
            cpu = sum(process.cpu_times()[:2])
        time.sleep(LOOK)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise click.ClickException(f"{' '.join(command[:4])} … failed; its own message is above.")
    return {
        "seconds": round(seconds, 1),
        "peak_memory": peak,
        "written": used(folder) - before,
        "cpu_seconds": round(cpu, 1),
    }


def used(folder: Path) -> int:
    """Return the total size of all files in a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def warm(folder: Path) -> None:
    """Read all safetensors files of a folder, so that they are in the page cache."""
    buffer = bytearray(1 << 24)
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def make_checkpoint(base: Path, adapter: Path, shape: Shape) -> int:
    """Write the checkpoint and its adapter if they do not exist, and return the checkpoint's size in bytes."""
    if not (base / "config.json").exists():
        base.mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(0)
        pool = (generator.normal(0, 0.02, 1 << 26).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        write_shards(base, dict(tensors(shape)), pool)
        shape.write_tokenizer(base)
        (base / "config.json").write_text(json.dumps(configuration(shape)))
    if not (adapter / "adapter_config.json").exists():
        write_adapter(adapter, shape)
    return used(base)


def tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the names and shapes of a checkpoint's tensors."""
    key_width = shape.hidden // shape.heads * shape.kv_heads
    yield "model.embed_tokens.weight", (shape.vocabulary, shape.hidden)
    for layer in range(shape.layers):
        of = f"model.layers.{layer}."
        for name, rows, columns in (
            ("self_attn.q_proj", shape.hidden, shape.hidden),
            ("self_attn.k_proj", key_width, shape.hidden),
            ("self_attn.v_proj", key_width, shape.hidden),
            ("self_attn.o_proj", shape.hidden, shape.hidden),
            ("mlp.gate_proj", shape.inner, shape.hidden),
            ("mlp.up_proj", shape.inner, shape.hidden),
            ("mlp.down_proj", shape.hidden, shape.inner),
        ):
            yield f"{of}{name}.weight", (rows, columns)
        for name in ("q_norm", "k_norm") if shape.query_norms else ():
            yield f"{of}self_attn.{name}.weight", (shape.hidden // shape.heads,)
        yield f"{of}input_layernorm.weight", (shape.hidden,)
        yield f"{of}post_attention_layernorm.weight", (shape.hidden,)
    yield "model.norm.weight", (shape.hidden,)
    yield "lm_head.weight", (shape.vocabulary, shape.hidden)


def write_shards(folder: Path, shapes: dict[str, tuple[int, ...]], pool: NDArray[np.uint16]) -> None:
    """Write random bfloat16 tensors in shards with an index.

    `pool`: the random numbers. Each tensor is a different slice of them.
    """
    shards: list[list[str]] = [[]]
    filled = 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        if shards[-1] and filled + size > SHARD:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    where: dict[str, str] = {}
    for place, names in enumerate(shards):
        file = f"model-{place + 1:05}-of-{len(shards):05}.safetensors"
        where |= dict.fromkeys(names, file)
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name in names:
            begin, end = end, end + 2 * int(np.prod(shapes[name]))
            header[name] = {"dtype": "BF16", "shape": list(shapes[name]), "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / file).open("wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for number, name in enumerate(names):
                remaining = int(np.prod(shapes[name]))
                first = (place * 7919 + number * 104729) * 64 % (len(pool) // 2)
                while remaining:
                    piece = pool[first : first + remaining]
                    out.write(piece.tobytes())
                    remaining -= len(piece)
                    first = 0
    index = {"metadata": {"total_size": sum(2 * int(np.prod(shape)) for shape in shapes.values())}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def configuration(shape: Shape) -> dict[str, Any]:
    """Return the content of the checkpoint's config.json."""
    return {
        "architectures": [f"{shape.architecture}ForCausalLM"], "model_type": shape.architecture.lower(),
        "hidden_size": shape.hidden, "intermediate_size": shape.inner, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads, "vocab_size": shape.vocabulary,
        "head_dim": shape.hidden // shape.heads, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
        "hidden_act": "silu", **shape.rotation,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip


def write_adapter(folder: Path, shape: Shape) -> None:
    """Write one PEFT adapter of the rank RANK, which changes every matrix except the embedding."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(1)
    header: dict[str, Any] = {}
    data: list[bytes] = []
    end = 0
    for name, size in tensors(shape):
        if len(size) != 2 or name == "model.embed_tokens.weight":
            continue
        module = name.removesuffix(".weight")
        for factor, (rows, columns) in (("A", (RANK, size[1])), ("B", (size[0], RANK))):
            values = generator.normal(0, 0.02, (rows, columns)).astype(np.float32)
            begin, end = end, end + values.nbytes
            key = f"base_model.model.{module}.lora_{factor}.weight"
            header[key] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [begin, end]}
            data.append(values.tobytes())
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data))
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK, "bias": "none",
                    "target_modules": list(TARGETS), "base_model_name_or_path": "base", "inference_mode": True})
    )  # fmt: skip


def picture(results: dict[str, Any]) -> str:
    """Return an SVG chart of how long `ecellm-lite convert` takes, and how long each of the three usual steps takes."""
    groups = [
        Group(step, [(each["seconds"], f"{each['seconds']:.0f} s, {each['peak_memory'] / 2**30:.1f} GiB")])
        for step, each in results["steps"].items()
    ]
    return draw(
        f"Converting {results['shape']}'s shape with an adapter to {results['file_type']}",
        f"Seconds and peak memory; the three steps together take {results['times_faster']:.1f} times as long.",
        ["seconds"],
        groups,
        190,
    )


def say(steps: dict[str, dict[str, Any]]) -> None:
    """Print the figures of the last step in `steps`."""
    step, each = list(steps.items())[-1]
    click.echo(f"{step}: {each}", err=True)


if __name__ == "__main__":
    main()
