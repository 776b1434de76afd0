"""A GGUF file as a base: its tensors are widened again, adapters find them by their names in a checkpoint.

Where its tensors are quantized they have lost something already, and lose a little more: the manifest says so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.architectures.llama import rotation_order
from ecellm_lite.convert.blueprint import Blueprint, Recipe, Value
from ecellm_lite.convert.gguf_bytes import KINDS
from ecellm_lite.convert.mixture import Model
from ecellm_lite.convert.reading import read_fully
from ecellm_lite.convert.source import Input
from ecellm_lite.errors import ModelError
from ecellm_lite.models.gguf_header import TensorInfo, read_header
from ecellm_lite.models.model_check import check_model

_VALUES: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}

# What a checkpoint calls the modules of these architectures.
_ENDS = {"token_embd": "model.embed_tokens", "output": "lm_head"}
_MODULES = {
    "llama": {
        "output_norm": "model.norm", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    },
    "phi2": {
        "output_norm": "model.final_layernorm", "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.dense",
        "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Placed:
    dtype: str
    shape: tuple[int, ...]


class GgufBase:
    """An open GGUF file as a source of weights; a context manager. Raises ModelError with what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self.header = read_header(path)
        check_model(self.header)
        if experts := self.header.metadata.get(f"{self.header.metadata['general.architecture']}.expert_count", 0):
            raise ModelError(f"{path} has {experts:,} experts, which are not converted here: take llama-quantize.")
        self._tensors = {one.name: one for one in self.header.tensors}
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise self._unread(error) from None
        status = os.fstat(self._descriptor)
        self._input = Input(path, status.st_size, status.st_mtime_ns)
        if status.st_size != self.header.file_size:
            self.close()
            raise ModelError(f"{path} was changed while it was opened: start again when it is complete.")

    def __enter__(self) -> GgufBase:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def tensor(self, name: str) -> _Placed:
        """Return a tensor's type and shape."""
        found = self._tensor(name)
        return _Placed(found.type.name, tuple(reversed(found.shape)))

    def rows(self, name: str, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """Return rows of a tensor: (count, columns) of F32, F16 or BF16's bits, else (count, bytes).

        Of a vector of values, `first` and `count` are values; a quantized one comes whole, as one row.
        """
        tensor = self._tensor(name)
        if len(tensor.shape) == 1 and (first, count) != (0, None):
            whole = self.rows(name)
            return whole[first : None if count is None else first + count] if tensor.type.name in _VALUES else whole
        columns, row_bytes = tensor.shape[0], tensor.type.row_bytes(tensor.shape[0])
        total = tensor.size // row_bytes
        taken = total - first if count is None else count
        buffer = np.empty((taken, row_bytes), dtype=np.uint8)
        read_fully(self._descriptor, self.path, memoryview(buffer.reshape(-1).data), tensor.offset + first * row_bytes)
        if tensor.type.name not in _VALUES:
            return buffer
        values: NDArray[Any] = buffer.view(_VALUES[tensor.type.name])
        return values.reshape(columns) if len(tensor.shape) == 1 else values

    def check_unchanged(self) -> None:
        """Raise ModelError if the file was written to since it was opened."""
        status = os.fstat(self._descriptor)
        if (status.st_size, status.st_mtime_ns) != (self._input.size, self._input.changed):
            raise ModelError(f"{self.path} was changed while it was read: start again when it is complete.")

    def inputs(self) -> list[Input]:
        """Return the file, as it was when it was opened."""
        return [self._input]

    def blueprint(self) -> Blueprint:
        """Return the blueprint of the same model: the same metadata, the same tensors."""
        architecture = str(self.header.metadata["general.architecture"])
        heads, kv_heads = self._heads(architecture)
        recipes = []
        for tensor in self.header.tensors:
            module = _module(architecture, tensor.name)
            shape = tuple(reversed(tensor.shape))
            rotated = {"self_attn.q_proj": heads, "self_attn.k_proj": kv_heads} if architecture == "llama" else {}
            turned = rotated.get(".".join(module.removesuffix(".bias").split(".")[-2:]), 0)
            # A head of an odd number of rows is none that can be rotated.
            order = rotation_order(turned, shape[0] // turned) if turned and shape[0] % (2 * turned) == 0 else None
            recipes.append(Recipe(tensor.name, tensor.name, shape, module, adapter_order=order))
        tied = "output.weight" not in self._tensors
        embedding = self._tensor("token_embd.weight")
        output = Recipe("output.weight", embedding.name, tuple(reversed(embedding.shape)), "lm_head") if tied else None
        layers = self._count(architecture, "block_count")
        return Blueprint(
            architecture, Model(layers, heads, kv_heads), self._metadata(), tuple(recipes), tied=tied, output=output
        )

    def _metadata(self) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for key, value in self.header.metadata.items():
            # What an imatrix has done to the base is not what is done now; an empty list says nothing.
            if not key.startswith("quantize.imatrix.") and not (isinstance(value, tuple) and not value):
                found[key] = (KINDS[self.header.kinds[key]], value)
        return found

    def _heads(self, architecture: str) -> tuple[int, int]:
        heads = self._count(architecture, "attention.head_count")
        grouped = f"{architecture}.attention.head_count_kv" in self.header.metadata
        return heads, self._count(architecture, "attention.head_count_kv") if grouped else heads

    def _count(self, architecture: str, key: str) -> int:
        value = self.header.metadata.get(f"{architecture}.{key}")
        if type(value) is not int or value < 1:
            raise ModelError(f"{self.path}: {architecture}.{key} is {str(value)[:40]}, not one number above 0.")
        return value

    def _tensor(self, name: str) -> TensorInfo:
        if name not in self._tensors:
            raise ModelError(f"{self.path} has no tensor {name!r}: it is no complete model of its architecture.")
        return self._tensors[name]

    def _unread(self, error: OSError) -> ModelError:
        return ModelError(f"{self.path} cannot be read ({error.strerror}): check the disk.")


def _module(architecture: str, name: str) -> str:
    """Return what a checkpoint calls a tensor's module, a bias with `.bias`; empty for one that no adapter can name."""
    found = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
    if not found:
        return ""
    layer, part, kind = found.groups()
    known = _MODULES.get(architecture, {})
    module = _ENDS.get(part, known.get(part, "")) if layer is None else known.get(part, "")
    if not module:
        return ""
    whole = module if layer is None else f"model.layers.{layer}.{module}"
    return whole if kind == "weight" else f"{whole}.bias"
