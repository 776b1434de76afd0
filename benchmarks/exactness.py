"""Claim: a converted file gives the same logits as its checkpoint. An adapter changes the logits as it does in peft.

    pip install torch transformers peft
    python -m benchmarks.exactness

For each architecture, a small random checkpoint is converted to F32 twice: without an adapter, and with a LoRA adapter.
The adapter changes q, k and, for some architectures, the output matrix. llama.cpp's logits are compared with those of
transformers on random prompts. Many of the prompts are longer than the attention windows of the Gemma checkpoints. The
KV cache is F32, and flash attention is off.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.facts import write_results
from ecellm_lite.convert.conversion import prepare_conversion
from ecellm_lite.convert.original import original_logits
from ecellm_lite.convert.request import ConversionRequest
from ecellm_lite.convert.verify import log_softmax
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.settings import Settings
from ecellm_lite.provision.verification import logits_of
from tests.support import decoder_checkpoints, tiny_checkpoints
from tests.support.small_checkpoints import factors, write_adapter

# For each kind of checkpoint, the module that writes it.
KINDS: Mapping[str, Any] = {
    kind: module for module in (tiny_checkpoints, decoder_checkpoints) for kind in module.CONFIGS
}


@click.command()
@click.option("--prompts", type=click.IntRange(1), default=100, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/exactness.json"))
def main(prompts: int, output: Path) -> None:
    """Compare the logits of converted files with those of their checkpoints, and write the differences."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for kind, checkpoints in KINDS.items():
            base = checkpoints.write_checkpoint(Path(name) / kind, kind)
            index = base / "model.safetensors.index.json"
            if index.exists():  # transformers refuses an index without metadata
                index.write_text(json.dumps({"metadata": {}, **json.loads(index.read_text())}))
            for adapters in ((), ((adapter_of(Path(name) / f"{kind}-adapter", kind), 1.0),)):
                target = Path(name) / "out.gguf"
                request = ConversionRequest(str(base), target, "F32", adapters, envelope="alpaca")
                with prepare_conversion(request) as conversion:
                    conversion.run(threads=2)
                case = f"{kind}{' with an adapter' if adapters else ''}"
                results[case] = compared(target, base, adapters, prompts)
                click.echo(f"{case}: {results[case]}", err=True)
    worst = max(each["largest_logit_difference"] for each in results.values())
    write_results(output, "exactness", {"prompts": prompts, "largest_logit_difference": worst, "cases": results})


def compared(file: Path, base: Path, adapters: tuple[tuple[Path, float], ...], count: int) -> dict[str, Any]:
    """Return how much llama.cpp's logits differ from those of transformers, over `count` random prompts."""
    backend = LlamaBackend(file, Settings(kv_type="f32", flash_attention="off", gpu_layers=0, context=512, threads=1))
    generator, tokens = np.random.default_rng(0), min(31000, backend.vocabulary.size)
    prompts = [generator.integers(3, tokens, int(length)).tolist() for length in generator.integers(4, 60, count)]
    places = others = 0
    worst = total = 0.0
    try:
        for ours, original in zip(logits_of(backend, prompts), original_logits(base, adapters, prompts), strict=True):
            ours = ours[:, : original.shape[1]]
            difference = float(np.abs(ours - original).max())
            mine, theirs = log_softmax(ours), log_softmax(original)
            total += float((np.exp(theirs) * (theirs - mine)).sum())
            places += len(ours)
            others += int((ours.argmax(axis=1) != original.argmax(axis=1)).sum())
            worst = max(worst, difference)
    finally:
        backend.close()
    return {
        "places": places,
        "largest_logit_difference": worst,
        "mean_kl": total / places,
        "other_likeliest_token": others,
    }


def adapter_of(folder: Path, kind: str) -> Path:
    """Write a LoRA adapter for q and k of all layers, and return its folder.

    `kind` is the name of a checkpoint's configuration.

    For the checkpoints of tests/support/tiny_checkpoints.py, the adapter changes the output matrix too. Gemma 2 is an
    exception, because it has no output matrix in llama.cpp.
    """
    shapes = KINDS[kind].shapes({"vocab_size": 0, **KINDS[kind].CONFIGS[kind]})
    weights: dict[str, NDArray[np.float32]] = {}
    present = []
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        end = module.rpartition(".")[2]
        if "vision_tower" not in module and end in {"q_proj", "k_proj", "qkv_proj"} and name != module:
            # The name that transformers has for it today.
            weights |= factors(module.replace("language_model.model.", "model.language_model."), *shape)
            present.append(end)
    targets: list[str] | str = sorted(set(present))
    if kind == "gemma3-images":
        targets = rf".*language_model.*\.({'|'.join(targets)})"  # the part that sees images has such modules too
    elif kind in tiny_checkpoints.CONFIGS and kind != "gemma2":  # llama.cpp's Gemma 2 has no output matrix
        weights |= factors("lm_head", *shapes["model.embed_tokens.weight"])
        targets = [*targets, "lm_head"]
    return write_adapter(folder, weights, target_modules=targets, task_type="CAUSAL_LM", bias="none")


if __name__ == "__main__":
    main()
