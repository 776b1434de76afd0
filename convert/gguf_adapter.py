"""Reads a LoRA adapter in llama.cpp's GGUF format, as convert_lora_to_gguf.py writes it.

The adapter's tensors are named after the GGUF tensors that they change. The rows of the factor B are in the order of
the GGUF tensor. The names and the order are translated to those of a PEFT adapter, so that all other code handles only
PEFT adapters. The scale of the factors is alpha / rank.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecellm_lite import ggml_quantizer
from ecellm_lite.convert.adapter import PeftAdapter, check_memory
from ecellm_lite.convert.blueprint import Blueprint
from ecellm_lite.convert.reading import damaged, unreadable
from ecellm_lite.convert.source import InputFile
from ecellm_lite.errors import ModelError
from ecellm_lite.kernels import Factors
from ecellm_lite.kernels.floats import FLOATS, widened
from ecellm_lite.models.gguf_header import TensorInfo, read_header
from ecellm_lite.tensor_types import CONVERTED


def read_gguf_adapter(path: Path) -> PeftAdapter:
    """Read the adapter in a GGUF file. Its tensors keep their GGUF names.

    Raises ModelError if the adapter cannot be merged.
    """
    header = read_header(path)
    metadata = header.metadata
    kind, adapter = metadata.get("general.type"), metadata.get("adapter.type")
    if (kind, adapter) != ("adapter", "lora"):
        raise ModelError(
            f"{path} is not a LoRA adapter: its general.type is {str(kind)[:40]!r}, its adapter.type "
            f"{str(adapter)[:40]!r}",
            step="give a LoRA adapter",
            file=str(path),
        )
    if activated := sorted(key for key in metadata if key.startswith("adapter.alora.")):
        raise ModelError(
            f"{path} has {activated[0][:80]}: an activated LoRA works only after its invocation tokens, and cannot be "
            "merged",
            step="use it unmerged, in llama.cpp",
            file=str(path),
        )
    alpha = metadata.get("adapter.lora.alpha")
    if not isinstance(alpha, float) or not math.isfinite(alpha) or alpha == 0:
        raise damaged(path, f"has adapter.lora.alpha = {str(alpha)[:40]}, which gives no usable scale")
    check_memory(path, [tensor.shape for tensor in header.tensors])
    parts: dict[str, dict[str, NDArray[np.float32]]] = {}
    try:
        with path.open("rb") as file:
            status = path.stat()
            for tensor in header.tensors:
                name, _, factor = tensor.name.rpartition(".")
                if factor not in {"lora_a", "lora_b"} or len(tensor.shape) != 2:
                    raise damaged(path, f"has the unknown tensor {tensor.name!r}")
                file.seek(tensor.offset)
                parts.setdefault(name, {})[factor] = _values(tensor, file.read(tensor.size), path)
    except OSError as error:
        raise unreadable(path, error) from None
    factors = {}
    for name, part in parts.items():
        if part.keys() != {"lora_a", "lora_b"} or part["lora_a"].shape[0] != part["lora_b"].shape[1]:
            raise damaged(path, f"lacks a factor of {name!r}, or its two factors do not fit together")
        if name.startswith("token_embd."):
            raise ModelError(
                f"{path} changes the embedding, whose factors GGUF stores in another layout",
                step="give the adapter as a PEFT folder",
                file=str(path),
            )
        factors[name] = Factors(part["lora_a"], part["lora_b"], alpha / len(part["lora_a"]))
    if not factors:
        raise damaged(path, "holds an adapter without weights")
    base_model = str(metadata.get("general.base_model.0.name") or "")
    return PeftAdapter(path, base_model, factors, inputs=(InputFile.of(path, status),))


def with_checkpoint_names(adapter: PeftAdapter, blueprint: Blueprint) -> PeftAdapter:
    """Return a copy of a GGUF adapter, with the module names and the row order of the base model's checkpoint.

    Raises ModelError if the adapter changes a tensor that the blueprint does not have. Also raises it if a tensor has
    more or fewer rows than in the blueprint.
    """
    recipes = {
        recipe.name: recipe for recipe in (*blueprint.recipes, *([blueprint.output] if blueprint.output else []))
    }
    unknown = sorted(name for name in adapter.factors if name not in recipes or not recipes[name].module)
    if unknown:
        raise ModelError(
            f"{adapter.path} changes {', '.join(unknown[:8])}, which the base does not have",
            step="give the base that it was trained on",
            file=str(adapter.path),
        )
    factors = {}
    for name, each in adapter.factors.items():
        recipe = recipes[name]
        if len(each.b) != recipe.shape[0]:
            raise ModelError(
                f"{adapter.path} has {len(each.b):,} rows for {name}, and the base {recipe.shape[0]:,}",
                step="give the base that it was trained on",
                file=str(adapter.path),
            )
        order = recipe.order if recipe.order is not None else recipe.adapter_order
        if order is not None:
            b = np.empty_like(each.b)
            b[order] = each.b
            each = replace(each, b=b)
        factors[recipe.module] = each
    return replace(adapter, factors=factors)


def _values(tensor: TensorInfo, data: bytes, path: Path) -> NDArray[np.float32]:
    columns, rows = tensor.shape
    kind = tensor.type.name
    if len(data) != tensor.size or kind not in CONVERTED:
        raise damaged(path, f"has a tensor {tensor.name!r} that is cut off, or of the unsupported type {kind}")
    if kind in FLOATS:
        return widened(np.frombuffer(data, dtype=FLOATS[kind]).reshape(rows, columns), kind)
    blocks = np.frombuffer(data, dtype=np.uint8).reshape(rows, -1)
    return ggml_quantizer.dequantize(blocks, CONVERTED[kind], columns)
