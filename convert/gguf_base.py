"""A GGUF file as the base of a conversion: its blocks are dequantized, its metadata go into the new file as they are.

A quantized base has lost something that no adapter brings back: the manifest says so. Adapters know the checkpoint's
names and row order, so each tensor of the file is given the module that it was, and where the file's rows are permuted,
the order that an adapter's rows are to be brought into.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ecellm_lite.convert.architectures.llama import rotation_order
from ecellm_lite.convert.blueprint import Blueprint, Recipe, Value
from ecellm_lite.convert.mixture import Model
from ecellm_lite.convert.source import Input
from numpy.typing import NDArray

from ecellm_lite.errors import ModelError
from ecellm_lite.models.gguf_header import Header, read_header
from ecellm_lite.models.model_check import check_model
from ecellm_lite.tensor_types import CONVERTED, TensorType

# What a layer's matrices are called in a checkpoint, by architecture and their name in the file.
_LAYERS = {
    "llama": {
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    },
    "phi2": {
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.dense", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2", "attn_norm": "input_layernorm",
    },
}  # fmt: skip

# And those outside of the layers.
_MODEL = {
    "llama": {"token_embd": "model.embed_tokens", "output": "lm_head", "output_norm": "model.norm"},
    "phi2": {"token_embd": "model.embed_tokens", "output": "lm_head", "output_norm": "model.final_layernorm"},
}

_VALUES: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor of the file: its type's name, its shape with the contiguous dimension last, its place in bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    type: TensorType

    @property
    def row_bytes(self) -> int:
        """The bytes of one index of the first dimension."""
        within = self.shape[1:] or (1,)
        return self.type.row_bytes(within[-1]) * math.prod(within[:-1])


class GgufBase:
    """An open GGUF file whose tensors can be converted; a context manager, and a Source.

    Raises ModelError for a file that is damaged, hostile, or of an architecture that is not converted here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._header = read_header(path)
        check_model(self._header)
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        status = os.fstat(self._descriptor)
        self._state = (status.st_size, status.st_mtime_ns)
        self._tensors = {
            tensor.name: GgufTensor(tensor.type.name, tuple(reversed(tensor.shape)), tensor.offset, tensor.type)
            for tensor in self._header.tensors
        }
        if self._state[0] != self._header.file_size:
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

    @property
    def lossy(self) -> bool:
        """Whether a tensor of the file is quantized."""
        return any(tensor.dtype not in _VALUES for tensor in self._tensors.values())

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def tensor(self, name: str) -> GgufTensor:
        """Return what is known of a tensor; raises ModelError if there is none, or its type is not converted."""
        if name not in self._tensors:
            raise ModelError(f"{self.path} has no tensor {name!r}.")
        found = self._tensors[name]
        if found.dtype not in CONVERTED:
            raise ModelError(
                f"The tensor {name!r} of {self.path} is of type {found.dtype}: "
                f"take a file of one of {', '.join(CONVERTED)}."
            )
        return found

    def rows(self, name: str, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """Return rows: float32, float16, bfloat16's bits as uint16, or (rows, bytes) of a quantized type."""
        tensor = self.tensor(name)
        rows = tensor.shape[0] - first if count is None else count
        buffer = np.empty(rows * tensor.row_bytes, dtype=np.uint8)
        self._fill(buffer.data, tensor.offset + first * tensor.row_bytes)
        if tensor.dtype in _VALUES:
            return buffer.view(_VALUES[tensor.dtype]).reshape(rows, *tensor.shape[1:])
        return buffer.reshape(rows, tensor.row_bytes)

    def check_unchanged(self) -> None:
        """Raise ModelError if the file was written to since it was opened."""
        status = os.fstat(self._descriptor)
        if (status.st_size, status.st_mtime_ns) != self._state:
            raise ModelError(f"{self.path} was changed while it was read: start again when it is complete.")

    def inputs(self) -> Sequence[Input]:
        """Return the file that is read."""
        return [Input(self.path, *self._state)]

    def blueprint(self) -> Blueprint:
        """Return the blueprint of the same model: every tensor and all metadata of the file."""
        header = self._header
        architecture = str(header.metadata.get("general.architecture"))
        if architecture not in _LAYERS:
            raise ModelError(
                f"{self.path} is of the architecture {architecture!r}: "
                f"adapters can be merged into {', '.join(_LAYERS)}."
            )
        model = Model(*(_count(header, architecture, key) for key in ("block_count", *_HEADS)))
        width = _head_width(header, architecture, model)
        recipes = tuple(
            _recipe(name, tensor.shape, architecture, model, width) for name, tensor in self._tensors.items()
        )
        tied = "output.weight" not in self._tensors
        embedding = self._tensors["token_embd.weight"].shape
        output = Recipe("output.weight", "token_embd.weight", embedding, "lm_head") if tied else None
        return Blueprint(architecture, model, typed_metadata(self.path), recipes, tied=tied, output=output)

    def _fill(self, buffer: memoryview, offset: int) -> None:
        done = 0
        while done < len(buffer):
            try:
                read = os.preadv(self._descriptor, [buffer[done:]], offset + done)
            except OSError as error:
                raise ModelError(f"{self.path} cannot be read ({error.strerror}): check the disk.") from None
            if not read:
                raise ModelError(f"{self.path} has become shorter while it was read: get it again.")
            done += read


def typed_metadata(path: Path) -> dict[str, Value]:
    """Return a checked file's metadata with their types, as they stand in the file, but for those of its tensors."""
    import gguf

    found: dict[str, Value] = {}
    # Its header was checked: gguf's reader believes what it reads.
    for field in gguf.GGUFReader(path).fields.values():
        if field.name.startswith("GGUF."):
            continue
        value = field.contents()
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            if not value:
                raise ModelError(f"{path}: the list {field.name!r} is empty, and of no known type.")
            if field.types[-1] != gguf.GGUFValueType.STRING:
                value = np.array(value, dtype=_ITEMS[field.types[-1].name])
        found[field.name] = (field.types[0].name, value)
    return found


_HEADS = ("attention.head_count", "attention.head_count_kv")

_ITEMS: dict[str, str] = {
    "UINT8": "u1", "INT8": "i1", "UINT16": "u2", "INT16": "i2", "UINT32": "u4", "INT32": "i4", "FLOAT32": "f4",
    "BOOL": "?", "UINT64": "u8", "INT64": "i8", "FLOAT64": "f8",
}  # fmt: skip


def _count(header: Header, architecture: str, key: str) -> int:
    value = header.metadata.get(f"{architecture}.{key}")
    if value is None and key == "attention.head_count_kv":
        return _count(header, architecture, "attention.head_count")
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1 << 20:
        raise ModelError(f"{header.path}: {architecture}.{key} is {str(value)[:40]}, which no model has.")
    return value


def _head_width(header: Header, architecture: str, model: Model) -> int:
    width = header.metadata.get(f"{architecture}.attention.key_length")
    if isinstance(width, int) and not isinstance(width, bool) and width >= 2:
        return width
    return _count(header, architecture, "embedding_length") // int(model.heads)


def _recipe(name: str, shape: tuple[int, ...], architecture: str, model: Model, width: int) -> Recipe:
    part, _, kind = name.rpartition(".")
    layer, number, place = "", "", part
    if part.startswith("blk."):
        layer, number, place = part.split(".", 2)
    names = _LAYERS[architecture] if layer else _MODEL[architecture]
    module = names.get(place, "")
    if module and layer:
        module = f"model.layers.{number}.{module}"
    order = None
    if architecture == "llama" and layer and place in ("attn_q", "attn_k"):
        order = rotation_order(model.heads if place == "attn_q" else model.kv_heads, width)
        if len(order) != shape[0]:
            raise ModelError(f"The tensor {name!r} has {shape[0]:,} rows for {len(order):,} that its heads take.")
    return Recipe(name, name, shape, module if kind == "weight" else "", adapter_order=order)
