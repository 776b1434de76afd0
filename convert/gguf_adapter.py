"""A LoRA adapter in llama.cpp's GGUF form, as its convert_lora_to_gguf.py writes it.

Its tensors are called as the file's that they change, and where those have permuted rows, so has B. It is given the
names and the order of a checkpoint's adapter, so that from there on there is one kind only. Its scale is alpha / rank.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecellm_lite import ggml
from ecellm_lite.convert.adapter import Factors, PeftAdapter, check_memory
from ecellm_lite.convert.blueprint import Blueprint
from ecellm_lite.convert.source import Input
from ecellm_lite.errors import ModelError
from ecellm_lite.models.gguf_header import TensorInfo, read_header
from ecellm_lite.tensor_types import CONVERTED

_VALUES: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16}


def read_gguf_adapter(path: Path) -> PeftAdapter:
    """Return the adapter in a GGUF file, its factors by the names of the file's tensors; raises ModelError."""
    header = read_header(path)
    said = header.metadata
    if said.get("general.type") != "adapter" or said.get("adapter.type") != "lora":
        raise ModelError(f"{path} is no LoRA adapter: its general.type is {str(said.get('general.type'))[:40]!r}.")
    if activated := sorted(key for key in said if key.startswith("adapter.alora.")):
        raise ModelError(
            f"{path} has {activated[0][:80]}: an activated LoRA works from a word of the prompt on only, and cannot be "
            "merged."
        )
    alpha = said.get("adapter.lora.alpha")
    if not isinstance(alpha, float) or not math.isfinite(alpha) or alpha == 0:
        raise ModelError(
            f"{path}: adapter.lora.alpha is {str(alpha)[:40]}, with which nothing can be merged: get the adapter again."
        )
    parts: dict[str, dict[str, NDArray[np.float32]]] = {}
    check_memory(path, [one.shape for one in header.tensors])
    try:
        with path.open("rb") as file:
            status = path.stat()
            for tensor in header.tensors:
                name, _, factor = tensor.name.rpartition(".")
                if factor not in {"lora_a", "lora_b"} or len(tensor.shape) != 2:
                    raise ModelError(f"{path}: nothing here knows what to do with the tensor {tensor.name!r}.")
                file.seek(tensor.offset)
                parts.setdefault(name, {})[factor] = _floats(tensor, file.read(tensor.size), path)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}): check the disk, and get the adapter again."
        ) from None
    factors = {}
    for name, part in parts.items():
        if part.keys() != {"lora_a", "lora_b"} or part["lora_a"].shape[0] != part["lora_b"].shape[1]:
            raise ModelError(f"{path}: the two factors of {name!r} are not there, or do not go together.")
        if name.startswith("token_embd."):
            raise ModelError(f"{path} changes the embedding, which is kept in another form: take the PEFT folder.")
        factors[name] = Factors(part["lora_a"], part["lora_b"], alpha / len(part["lora_a"]))
    if not factors:
        raise ModelError(f"{path} holds no weights: it is an empty adapter.")
    inputs = (Input(path, status.st_size, status.st_mtime_ns),)
    return PeftAdapter(path, factors, {}, {}, str(said.get("general.base_model.0.name") or ""), inputs)


def in_checkpoints_terms(adapter: PeftAdapter, blueprint: Blueprint) -> PeftAdapter:
    """Return an adapter whose factors are named by a file's tensors as one of the checkpoint's modules and row order.

    Raises ModelError with the tensors that the blueprint does not have, or whose rows are others.
    """
    recipes = {
        recipe.name: recipe for recipe in (*blueprint.recipes, *([blueprint.output] if blueprint.output else []))
    }
    unknown = sorted(name for name in adapter.factors if name not in recipes or not recipes[name].module)
    if unknown:
        raise ModelError(f"{adapter.path} changes {', '.join(unknown[:8])}, which the base does not have.")
    found = {}
    for name, factors in adapter.factors.items():
        recipe = recipes[name]
        order = recipe.order if recipe.order is not None else recipe.adapter_order
        if len(factors.b) != recipe.shape[0]:
            raise ModelError(
                f"{adapter.path} has {len(factors.b):,} rows for {name}, and the base {recipe.shape[0]:,}."
            )
        if order is not None:
            b = np.empty_like(factors.b)
            b[order] = factors.b
            factors = replace(factors, b=b)
        found[recipe.module] = factors
    return replace(adapter, factors=found)


def _floats(tensor: TensorInfo, data: bytes, path: Path) -> NDArray[np.float32]:
    columns, rows = tensor.shape
    kind = tensor.type
    if len(data) != tensor.size or kind.name not in CONVERTED:
        raise ModelError(f"{path}: the tensor {tensor.name!r} is cut off, or of a type that is not known here.")
    if kind.name in _VALUES:
        return np.frombuffer(data, dtype=_VALUES[kind.name]).reshape(rows, columns).astype(np.float32)
    blocks = np.frombuffer(data, dtype=np.uint8).reshape(rows, -1)
    return ggml.dequantize(blocks, CONVERTED[kind.name], columns)
