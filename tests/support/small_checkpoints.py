"""Writes small checkpoints and adapters, and makes the blueprint (list of tensors and metadata) of a GGUF file."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.blueprint import Blueprint, TensorRecipe
from ecellm_lite.convert.mixture import ModelShape

Tensors = Mapping[str, NDArray[Any]]
LAYERS, HEADS, KV_HEADS, WIDTH, INNER, TOKENS = 2, 4, 2, 256, 512, 320


def write_safetensors(path: Path, tensors: Tensors) -> Path:
    """Write a safetensors file, and return its path. Arrays of type uint16 are stored as bfloat16."""
    names = {"float32": "F32", "float16": "F16", "uint16": "BF16"}
    header, end = {}, 0
    for name, values in tensors.items():
        header[name] = {
            "dtype": names[values.dtype.name],
            "shape": list(values.shape),
            "data_offsets": [end, end + values.nbytes],
        }
        end += values.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(values.tobytes() for values in tensors.values()))
    return path


def bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def shapes(*, layers: int = LAYERS, tied: bool = False) -> dict[str, tuple[str, tuple[int, ...]]]:
    """For each tensor of a Llama checkpoint, return its name and shape in the converted file."""
    key_value = WIDTH // HEADS * KV_HEADS
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {
        "model.embed_tokens.weight": ("token_embd.weight", (TOKENS, WIDTH)),
        "model.norm.weight": ("output_norm.weight", (WIDTH,)),
    }
    for layer in range(layers):
        theirs, ours = f"model.layers.{layer}.", f"blk.{layer}."
        tensors |= {
            f"{theirs}input_layernorm.weight": (f"{ours}attn_norm.weight", (WIDTH,)),
            f"{theirs}self_attn.q_proj.weight": (f"{ours}attn_q.weight", (WIDTH, WIDTH)),
            f"{theirs}self_attn.k_proj.weight": (f"{ours}attn_k.weight", (key_value, WIDTH)),
            f"{theirs}self_attn.v_proj.weight": (f"{ours}attn_v.weight", (key_value, WIDTH)),
            f"{theirs}self_attn.o_proj.weight": (f"{ours}attn_output.weight", (WIDTH, WIDTH)),
            f"{theirs}post_attention_layernorm.weight": (f"{ours}ffn_norm.weight", (WIDTH,)),
            f"{theirs}mlp.gate_proj.weight": (f"{ours}ffn_gate.weight", (INNER, WIDTH)),
            f"{theirs}mlp.up_proj.weight": (f"{ours}ffn_up.weight", (INNER, WIDTH)),
            f"{theirs}mlp.down_proj.weight": (f"{ours}ffn_down.weight", (WIDTH, INNER)),
        }
    if not tied:
        tensors["lm_head.weight"] = ("output.weight", (TOKENS, WIDTH))
    return tensors


def weights(kind: str = "BF16", *, layers: int = LAYERS, tied: bool = False, seed: int = 0) -> dict[str, NDArray[Any]]:
    generator = np.random.default_rng(seed)
    tensors: dict[str, NDArray[Any]] = {}
    for name, (_, shape) in shapes(layers=layers, tied=tied).items():
        values = (generator.standard_normal(shape) / math.sqrt(shape[-1])).astype(np.float32)
        kinds: dict[str, NDArray[Any]] = {"F32": values, "F16": values.astype(np.float16), "BF16": bf16(values)}
        tensors[name] = kinds[kind]
    return tensors


def write_checkpoint(folder: Path, tensors: Tensors) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def rotated(heads: int, rows: int) -> NDArray[np.uint32]:
    """Return the row order that llama.cpp needs for a query or key matrix.

    If item 3 of the result is 7, row 3 of the converted matrix is row 7 of the checkpoint's matrix.
    """
    order: NDArray[np.int64] = np.arange(rows).reshape(heads, 2, rows // heads // 2).swapaxes(1, 2).reshape(-1)
    return order.astype(np.uint32)


def blueprint(*, layers: int = LAYERS, tied: bool = False, metadata: Mapping[str, Any] | None = None) -> Blueprint:
    recipes = []
    for source, (name, shape) in shapes(layers=layers, tied=tied).items():
        heads = {"attn_q.weight": HEADS, "attn_k.weight": KV_HEADS}.get(name.split(".", 2)[-1])
        order = rotated(heads, shape[0]) if heads else None
        recipes.append(TensorRecipe(name, source, shape, source.removesuffix(".weight"), order))
    output = TensorRecipe("output.weight", "model.embed_tokens.weight", (TOKENS, WIDTH), "lm_head") if tied else None
    keys = {
        "general.architecture": ("STRING", "llama"),
        "general.name": ("STRING", "small"),
        "llama.block_count": ("UINT32", layers),
        **(metadata or {}),
    }
    return Blueprint("llama", ModelShape(layers, HEADS, KV_HEADS), keys, tuple(recipes), tied=tied, output=output)


def write_adapter(folder: Path, tensors: Tensors, **config: Any) -> Path:
    """Write an adapter in PEFT's format, and return its folder.

    The prefix `base_model.model.` is put before the names in `tensors`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "small", **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    write_safetensors(
        folder / "adapter_model.safetensors", {f"base_model.model.{name}": each for name, each in tensors.items()}
    )
    return folder


def factors(module: str, rows: int, columns: int, *, rank: int = 4, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng([seed, rows, columns, len(module)])
    return {
        f"{module}.lora_A.weight": (generator.standard_normal((rank, columns)) / 16).astype(np.float32),
        f"{module}.lora_B.weight": (generator.standard_normal((rows, rank)) / 16).astype(np.float32),
    }
