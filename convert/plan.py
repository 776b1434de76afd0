"""The plan of a file before a byte of it is written: each tensor's type, place and size, and what it takes.

The tensors stand in the order in which llama-quantize writes them, each at a multiple of the alignment.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from ecellm_lite.convert.blueprint import Blueprint, Value
from ecellm_lite.convert.gguf_bytes import ALIGNMENT, Declared, aligned, header_bytes
from ecellm_lite.convert.merging import Part
from ecellm_lite.convert.mixture import Matrix, summary, tensor_types
from ecellm_lite.convert.source import Source
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.ggml import FILE_TYPES
from ecellm_lite.models.files import in_words
from ecellm_lite.tensor_types import CONVERTED, TensorType
from ecellm_lite.version import __version__

_QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION of ggml.h
_BLOCK_WEIGHTS = 4 << 20
# Blocks in memory at once: two read ahead, one in work, two to be written, and one being read.
_BLOCKS = 6
_RESERVE = 128 << 20  # bytes of memory for the program itself


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor of the file: what it is made of, its type, and its place; offset in bytes from the file's beginning."""

    part: Part
    source_type: str
    type: TensorType
    offset: int
    importance: NDArray[np.float32] | None = None

    @property
    def name(self) -> str:
        """Its name in the file."""
        return str(self.part.recipe.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, with the contiguous dimension last."""
        shape: tuple[int, ...] = self.part.recipe.shape
        return shape

    @property
    def columns(self) -> int:
        """The length of a row."""
        return self.shape[-1]

    @property
    def rows(self) -> int:
        """How many rows there are; a vector is one."""
        return math.prod(self.shape[:-1])

    @property
    def row_bytes(self) -> int:
        """The bytes of a row in the file."""
        return self.type.row_bytes(self.columns)

    @property
    def size(self) -> int:
        """The bytes in the file, without those up to the next multiple of the alignment."""
        return self.rows * self.row_bytes

    @property
    def read_bytes(self) -> int:
        """The bytes of the source that are read for it."""
        return 0 if self.part.saved is not None else self.rows * CONVERTED[self.source_type].row_bytes(self.columns)


@dataclass(frozen=True, slots=True)
class Plan:
    """A file that is to be written: `header` are its first bytes, `size` all of them.

    `block_weights`: how many weights are read, converted and written at a time. `memory`: the bytes that takes at most.
    `identity`: a hash of all that decides the file's bytes but for the source's.
    """

    file_type: str
    header: bytes
    tensors: tuple[PlannedTensor, ...]
    size: int
    block_weights: int
    memory: int
    identity: str
    metadata: Mapping[str, Value] = field(repr=False, default_factory=dict)

    @property
    def types(self) -> dict[str, int]:
        """How many tensors there are of each type."""
        counts: dict[str, int] = summary({tensor.name: tensor.type.name for tensor in self.tensors})
        return counts

    @property
    def lossy_source(self) -> dict[str, int]:
        """How many tensors come from quantized ones, by type."""
        types = {one.name: one.source_type for one in self.tensors if CONVERTED[one.source_type].block > 1}
        counts: dict[str, int] = summary(types)
        return counts

    @property
    def read_bytes(self) -> int:
        """How many bytes of the source are read."""
        return sum(tensor.read_bytes for tensor in self.tensors)

    @property
    def bits_a_weight(self) -> float:
        """The file's bits for each weight."""
        return 8 * self.size / max(1, sum(math.prod(tensor.shape) for tensor in self.tensors))


def draw_plan(
    blueprint: Blueprint,
    parts: Sequence[Part],
    source: Source,
    file_type: str,
    *,
    overrides: Sequence[tuple[str, str]] = (),
    importance: Mapping[str, NDArray[np.float32]] | None = None,
    max_memory: int | None = None,
) -> Plan:
    """Return the plan of a blueprint's file of a type (say `Q4_K_M`).

    `overrides`: pairs of a pattern of tensors' names and a type. `importance`: the imatrix by tensor, (columns,) each.
    `max_memory`: bytes that the conversion may take. Raises UsageError for types that there are not or too little
    memory allowed, ModelError for a source that does not fit the blueprint.
    """
    by_name = {part.recipe.name: part for part in parts}
    types = tensor_types(
        [Matrix(part.recipe.name, part.recipe.shape) for part in parts],
        file_type,
        blueprint.model,
        imatrix=importance is not None,
        overrides=overrides,
    )
    metadata = {key: value for key, value in blueprint.metadata.items() if key not in _LAST}
    metadata |= dict(zip(_LAST, (("UINT32", _QUANTIZATION_VERSION), ("UINT32", FILE_TYPES[file_type])), strict=True))
    alignment = int(blueprint.metadata.get("general.alignment", ("UINT32", ALIGNMENT))[1])
    declared, end = [], 0
    for name, kind in types.items():
        shape = by_name[name].recipe.shape
        declared.append(Declared(name, shape, CONVERTED[kind], end))
        end = aligned(end + math.prod(shape[:-1]) * CONVERTED[kind].row_bytes(shape[-1]), alignment)
    header = header_bytes(metadata, declared, alignment)
    tensors = tuple(
        PlannedTensor(
            by_name[one.name],
            _source_type(by_name[one.name], source),
            one.type,
            len(header) + one.offset,
            _importance(one, importance),
        )
        for one in declared
    )
    if importance and all(one.importance is None for one in tensors if CONVERTED[one.type.name].block > 1):
        raise ModelError(
            f"The imatrix knows {', '.join(list(importance)[:3])} and so on, and none of the tensors that are "
            "quantized: it was collected on another model."
        )
    block, memory = _blocks(tensors, parts, max_memory)
    return Plan(file_type, header, tensors, len(header) + end, block, memory, _identity(header, tensors), metadata)


_LAST = ("general.quantization_version", "general.file_type")


def check_room(plan: Plan, target: Path, there: int = 0) -> None:
    """Raise ModelError if the disk or the memory cannot hold what the plan takes; `there` bytes are written already."""
    folder = next((folder for folder in target.absolute().parents if folder.is_dir()), None)
    if folder is None:
        raise ModelError(f"{target} is in no folder: give another --output.")
    free = shutil.disk_usage(folder).free
    if plan.size - there > free:
        raise ModelError(
            f"{target} takes {in_words(plan.size - there)}, and {folder} has {in_words(free)} free: "
            "make room, or take a smaller --quant."
        )
    available = psutil.virtual_memory().available
    if plan.memory > available:
        raise ModelError(
            f"The conversion takes up to {plan.memory / 2**20:,.0f} MiB of memory, and {available / 2**20:,.0f} MiB "
            "are free: close other programs, or give a smaller --max-memory."
        )


def _source_type(part: Part, source: Source) -> str:
    """Return the type that the part's rows come in; raises ModelError where the source does not fit the blueprint."""
    recipe, found = part.recipe, source.tensor(part.recipe.source)
    if found.shape != recipe.shape:
        raise ModelError(
            f"The tensor {recipe.source!r} has the shape {found.shape}, and its model's configuration says "
            f"{recipe.shape}: get the checkpoint again."
        )
    if found.dtype not in CONVERTED:
        raise ModelError(
            f"The tensor {recipe.source!r} is of type {found.dtype}: weights come as F32, F16 or BF16; save the model "
            "in one of these."
        )
    if recipe.order is not None and sorted(recipe.order.tolist()) != list(range(recipe.shape[0])):
        raise ModelError(f"The order of {recipe.name!r} is no permutation of its {recipe.shape[0]:,} rows.")
    return "F32" if part.saved is not None else found.dtype


def _importance(tensor: Declared, importance: Mapping[str, NDArray[np.float32]] | None) -> NDArray[np.float32] | None:
    found = (importance or {}).get(tensor.name)
    if found is None or tensor.type.name in {"F32", "F16", "BF16"}:
        return None
    if found.shape != (tensor.shape[-1],):
        if tensor.name == "token_embd.weight":
            # llama-imatrix has counted an output matrix that is tied to it in another way.
            return None
        raise ModelError(
            f"The imatrix has {found.size:,} values for {tensor.name!r}, whose rows have {tensor.shape[-1]:,} "
            "weights: it was collected on another model."
        )
    return found


def _blocks(tensors: Sequence[PlannedTensor], parts: Sequence[Part], most: int | None) -> tuple[int, int]:
    """Return the weights of a block, and the bytes of memory that the conversion takes."""
    held = sum(_held(part) for part in parts) + _RESERVE
    # A block is a row at least.
    row = max((tensor.columns for tensor in tensors), default=1)
    weight = max((_bytes_a_weight(tensor) for tensor in tensors), default=8.0)
    block = max(_BLOCK_WEIGHTS, row)
    if most is not None:
        block = max(row, min(block, int((most - held) / (weight * _BLOCKS))))
    memory = held + int(block * weight * _BLOCKS)
    if most is not None and memory > most:
        raise UsageError(
            f"The conversion takes {memory / 2**20:,.0f} MiB of memory at least: give a --max-memory of as much."
        )
    return block, memory


def _bytes_a_weight(tensor: PlannedTensor) -> float:
    source = CONVERTED[tensor.source_type]
    return source.block_bytes / source.block + tensor.type.block_bytes / tensor.type.block


def _held(part: Part) -> int:
    """Return the bytes of an adapter that stay in memory."""
    arrays: list[NDArray[Any] | None] = [part.magnitudes, part.saved, part.recipe.order]
    arrays += [values for one in part.adapters for values in (one.a, one.b)]
    return sum(values.nbytes for values in arrays if values is not None)


def _identity(header: bytes, tensors: Sequence[PlannedTensor]) -> str:
    found = hashlib.sha256(f"{__version__}\n".encode())
    found.update(header)
    for piece in _pieces(tensors):
        found.update(piece)
    return found.hexdigest()


def _pieces(tensors: Sequence[PlannedTensor]) -> Iterator[bytes]:
    for tensor in tensors:
        yield tensor.part.digest()
        yield tensor.source_type.encode()
        yield b"" if tensor.importance is None else hashlib.sha256(tensor.importance.tobytes()).digest()
