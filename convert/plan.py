"""Plans a GGUF file before it is written: each tensor's type, offset and size, and the memory needed.

The tensors are in the same order as in the files of llama-quantize. Each tensor's offset is a multiple of the
alignment.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from ecellm_lite.convert.blueprint import Blueprint, TensorRecipe
from ecellm_lite.convert.gguf_bytes import ALIGNMENT, aligned, header_bytes
from ecellm_lite.convert.mixture import summary, tensor_types
from ecellm_lite.convert.planned_tensor import PlannedTensor
from ecellm_lite.convert.source import TensorSource
from ecellm_lite.errors import EcellmError, ModelError, UsageError
from ecellm_lite.kernels.floats import FLOATS
from ecellm_lite.models.files import size_text
from ecellm_lite.tensor_types import CONVERTED, FILE_TYPES, TensorType
from ecellm_lite.version import __version__

_QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION of ggml.h
_LAST_KEYS = ("general.quantization_version", "general.file_type")
_BLOCK_WEIGHTS = 4 << 20
# Blocks in memory at once: one being read, two read, one being converted, and two waiting to be written.
_BLOCKS = 6
_RESERVE = 128 << 20  # bytes of memory for the program itself


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a file to be written.

    - `header`: the file's first bytes.
    - `size`: the file's length in bytes.
    - `block_weights`: the number of weights that are read, converted and written at a time.
    - `memory`: the most memory that writing needs, in bytes.
    - `identity`: a hash of everything that the file's bytes depend on, except the bytes of the source.
    """

    file_type: str
    header: bytes
    tensors: tuple[PlannedTensor, ...]
    size: int
    block_weights: int
    memory: int
    identity: str

    @property
    def data_offset(self) -> int:
        """The offset of the tensors' data in the file, in bytes."""
        return len(self.header)

    @property
    def types(self) -> dict[str, int]:
        """The number of tensors of each type."""
        return summary(tensor.type.name for tensor in self.tensors)

    @property
    def lossy_source(self) -> dict[str, int]:
        """The quantized types in the source, each with its number of tensors. Empty if the source is not quantized."""
        return summary(tensor.source_type for tensor in self.tensors if tensor.source_type not in FLOATS)

    @property
    def read_bytes(self) -> int:
        """The number of bytes that are read from the source."""
        return sum(tensor.read_bytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """The average number of bits per weight in the file."""
        return 8 * self.size / max(1, sum(math.prod(tensor.shape) for tensor in self.tensors))

    def check_room(self, target: Path, bytes_written: int = 0, beside: int = 0) -> None:
        """Raise ModelError if the disk or the memory has too little free space.

        - `beside`: how many bytes of disk space the conversion needs in addition to its output, such as for a
          downloaded shard.
        - `bytes_written`: how many bytes of the output and of these additional files are already on the disk.
        """
        folder = next((folder for folder in target.absolute().parents if folder.is_dir()), None)
        if folder is None:
            raise ModelError(
                f"{target} is in no folder", step="give another output file", settings=("target",), file=str(target)
            )
        free = shutil.disk_usage(folder).free
        missing = self.size + beside - bytes_written
        if missing > free:
            raise ModelError(
                f"{target} needs {size_text(missing)}, and {folder} has {size_text(free)} free",
                step="make room, or choose a smaller type",
                settings=("file_type",),
                file=str(target),
            )
        available = psutil.virtual_memory().available
        if self.memory > available:
            raise ModelError(
                f"The conversion needs up to {size_text(self.memory)} of memory, and {size_text(available)} are free",
                step="close other programs, or limit the memory",
                settings=("max_memory",),
            )


def draw_plan(
    blueprint: Blueprint,
    source: TensorSource,
    file_type: str,
    *,
    overrides: Sequence[tuple[str, str]] = (),
    importance: Mapping[str, NDArray[np.float32]] | None = None,
    max_memory: int | None = None,
) -> Plan:
    """Return the plan for a blueprint and a file type (such as Q4_K_M).

    - `overrides`: pairs of a regular expression and a type. A matrix gets the type of the first expression that is
      found anywhere in its name.
    - `importance`: the imatrix. It has an array for each tensor's name, with one number per column.
    - `max_memory`: the number of bytes of memory that the conversion may use.

    Raises UsageError for an unknown type, for a limit that is too low, and for an imatrix if nothing is quantized.
    Raises ModelError if the source or the imatrix does not fit the blueprint.
    """
    recipes = {recipe.name: recipe for recipe in blueprint.recipes}
    types = tensor_types(
        {name: recipe.shape for name, recipe in recipes.items()},
        file_type,
        blueprint.model,
        imatrix=importance is not None,
        overrides=overrides,
    )
    metadata = {key: value for key, value in blueprint.metadata.items() if key not in _LAST_KEYS}
    numbers = (_QUANTIZATION_VERSION, FILE_TYPES[file_type])
    metadata |= {key: ("UINT32", number) for key, number in zip(_LAST_KEYS, numbers, strict=True)}
    alignment = int(blueprint.metadata.get("general.alignment", ("UINT32", ALIGNMENT))[1])
    tensors: list[PlannedTensor] = []
    end = 0
    for name, kind in types.items():
        recipe, tensor_type = recipes[name], CONVERTED[kind]
        weights = _importance(recipe, tensor_type, importance or {})
        tensors.append(PlannedTensor(recipe, _source_type(recipe, source), tensor_type, end, weights))
        end = aligned(end + tensors[-1].size, alignment)
    quantized = [tensor for tensor in tensors if tensor.type.block > 1]
    if importance is not None and not quantized:
        raise UsageError(
            f"The type {file_type} quantizes no tensor, so an imatrix has no use",
            step="give no imatrix, or a smaller type",
            settings=("imatrix", "file_type"),
        )
    if importance and all(tensor.importance is None for tensor in quantized):
        raise _foreign_imatrix(
            f"The imatrix names {', '.join(list(importance)[:3])} and so on, but none of the quantized tensors"
        )
    header = header_bytes(metadata, tensors, alignment)
    block_weights, memory = _blocks(tensors, max_memory)
    identity = hashlib.sha256(f"{__version__}\n".encode() + header)
    for tensor in tensors:
        identity.update(tensor.digest())
    size = len(header) + end
    return Plan(file_type, header, tuple(tensors), size, block_weights, memory, identity.hexdigest())


def _source_type(recipe: TensorRecipe, source: TensorSource) -> str:
    """Return the type of a tensor's rows before their conversion: its type in the source or, without a source, F32.

    Raises ModelError if the source does not fit the recipe.
    """
    if not recipe.source:
        return "F32"
    tensor = source.tensor(recipe.source)
    if tensor.shape != recipe.shape:
        raise ModelError(
            f"The tensor {recipe.source!r} has the shape {tensor.shape}, but the model's configuration implies "
            f"{recipe.shape}",
            step="download the base again",
            field=recipe.source,
        )
    if tensor.type not in CONVERTED:
        raise ModelError(
            f"The tensor {recipe.source!r} has the type {tensor.type}",
            step=f"save the model with weights as {', '.join(FLOATS)}",
            field=recipe.source,
        )
    if recipe.order is not None and sorted(recipe.order.tolist()) != list(range(recipe.shape[0])):
        raise EcellmError(f"The order of {recipe.name!r} is not a permutation of its rows", step="report this")
    return "F32" if recipe.saved is not None or recipe.added else tensor.type


def _importance(
    recipe: TensorRecipe, kind: TensorType, importance: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32] | None:
    weights = importance.get(recipe.name)
    if weights is None or kind.name in FLOATS:
        return None
    if weights.shape == (recipe.shape[-1],):
        return weights
    if recipe.name == "token_embd.weight":
        # llama-imatrix counts differently if the output matrix is tied to the embedding.
        return None
    raise _foreign_imatrix(
        f"The imatrix has {weights.size:,} values for {recipe.name!r}, whose rows have {recipe.shape[-1]:,} weights"
    )


def _foreign_imatrix(problem: str) -> ModelError:
    return ModelError(problem, step="give an imatrix that was collected on this model", settings=("imatrix",))


def _blocks(tensors: Sequence[PlannedTensor], most: int | None) -> tuple[int, int]:
    """Return how many weights to convert at once (a block), and how many bytes of memory the conversion needs.

    `most`: the memory limit in bytes, or None.
    """
    fixed_bytes = sum(tensor.recipe.memory_bytes for tensor in tensors) + _RESERVE
    row = max((tensor.columns for tensor in tensors), default=1)  # the smallest block
    weight = max((tensor.bytes_per_weight for tensor in tensors), default=8.0)
    block = max(_BLOCK_WEIGHTS, row)
    if most is not None:
        block = max(row, min(block, int((most - fixed_bytes) / (weight * _BLOCKS))))
    memory = fixed_bytes + int(block * weight * _BLOCKS)
    if most is not None and memory > most:
        raise UsageError(
            f"The conversion needs at least {size_text(memory)} of memory, more than the limit of {size_text(most)}",
            step="raise the limit",
            settings=("max_memory",),
        )
    return block, memory
