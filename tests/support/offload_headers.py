"""Headers of models with eCeLLM's shapes, and simulated GPUs. With these, the tests need neither a model nor a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecellm_lite.devices import Device
from ecellm_lite.engine.offload import Placement, place
from ecellm_lite.models.gguf_header import Header, TensorInfo
from ecellm_lite.tensor_types import TENSOR_TYPES

GIB = 1 << 30
TYPES = {type_.name: type_ for type_ in TENSOR_TYPES.values()}

# layers, embedding, feed-forward, heads, key-value heads, vocabulary
SHAPES = {
    "S": (32, 2560, 10240, 32, 32, 51200),
    "M": (32, 4096, 14336, 32, 8, 32000),
    "L": (40, 5120, 13824, 40, 40, 32000),
    "demo": (30, 576, 1536, 9, 3, 49152),
}


def header_of(name: str, **metadata: Any) -> Header:
    """Return the header of a model with the shape `name`. The weights are in Q4_0, and the output matrix is in Q6_K.

    The shape "demo" has no output matrix, because the demo uses its embedding as the output matrix.
    """
    layers, embedding, feed_forward, heads, heads_kv, vocabulary = SHAPES[name]
    architecture = "phi2" if name == "S" else "llama"
    key_value = embedding // heads * heads_kv
    matrices = {
        "attn_q": (embedding, embedding),
        "attn_k": (embedding, key_value),
        "attn_v": (embedding, key_value),
        "attn_output": (embedding, embedding),
        "ffn_up": (embedding, feed_forward),
        "ffn_down": (feed_forward, embedding),
    }
    if architecture == "llama":
        matrices["ffn_gate"] = (embedding, feed_forward)
    tensors = [("token_embd.weight", (embedding, vocabulary), "Q4_0"), ("output_norm.weight", (embedding,), "F32")]
    if name != "demo":
        tensors.append(("output.weight", (embedding, vocabulary), "Q6_K"))
    if architecture == "phi2":
        tensors.append(("output.bias", (vocabulary,), "F32"))
    for layer in range(layers):
        tensors.append((f"blk.{layer}.attn_norm.weight", (embedding,), "F32"))
        tensors += [(f"blk.{layer}.{matrix}.weight", shape, "Q4_0") for matrix, shape in matrices.items()]
    keys = {
        "general.architecture": architecture,
        f"{architecture}.block_count": layers,
        f"{architecture}.context_length": 4096,
        f"{architecture}.embedding_length": embedding,
        f"{architecture}.feed_forward_length": feed_forward,
        f"{architecture}.attention.head_count": heads,
        f"{architecture}.attention.head_count_kv": heads_kv,
        **{f"{architecture}.{key}": value for key, value in metadata.items()},
    }
    return Header(
        path=Path(f"eCeLLM-{name}.gguf"),
        version=3,
        alignment=32,
        metadata={key: value for key, value in keys.items() if value is not None},
        tensors=tuple(tensor_of(*tensor) for tensor in tensors),
        data_offset=0,
        file_size=0,
    )


def tensor_of(name: str, shape: tuple[int, ...], kind: str) -> TensorInfo:
    type_ = TYPES[kind]
    return TensorInfo(name, shape, type_, 0, int(np.prod(shape)) // type_.block * type_.block_bytes)


HEADERS = {name: header_of(name) for name in SHAPES}


def gpus_of(*free: float) -> list[Device]:
    """Return simulated GPUs. Each number in `free` makes one GPU with that many GiB of free memory."""
    return [Device(f"GPU{n}", "made up", "gpu", int(size * GIB), int(size * GIB)) for n, size in enumerate(free)]


def plan(header: Header, gpus: Sequence[Device], gpu_layers: str | int = "auto", **settings: Any) -> Placement:
    chosen = {"cells": 4096, "kv_type": "f16", "micro_batch": 512, "flash_attention": True, **settings}
    return place(header, gpus, gpu_layers, **chosen)
