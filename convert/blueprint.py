"""The blueprint of a GGUF file: its metadata, and how each of its tensors is made from a checkpoint.

An architecture draws it (architectures/), adapters are attached to it, and the plan adds types and offsets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.mixture import ModelShape
from ecellm_lite.kernels import Factors

# A GGUF metadata value as (type, value); gguf-py's names of types (GGUFValueType): UINT32, FLOAT32, STRING, ARRAY, …
MetadataValue: TypeAlias = "tuple[str, Any]"


@dataclass(frozen=True, slots=True)
class TensorRecipe:
    """How a tensor of the file is made.

    `source`: its name in the checkpoint. `shape` has the contiguous dimension last. `module`: its name in an adapter
    (the source without `.weight`). `order`, (rows,): the source's row for each row of the file's tensor, if the
    architecture permutes them. `adapter_order`, (rows,): the adapter's row for each row of the source, if the source is
    permuted and the adapter is not.

    Adapters set the rest. `factors` are added, and each merged row is scaled to its norm in `magnitudes` (DoRA); both
    are indexed by the source's rows. `saved`, of the same shape, replaces the source.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    module: str = ""
    order: NDArray[np.uint32] | None = None
    adapter_order: NDArray[np.uint32] | None = None
    factors: tuple[Factors, ...] = ()
    magnitudes: NDArray[np.float32] | None = None
    saved: NDArray[np.float32] | None = None

    @property
    def key(self) -> str:
        """The tensor's name in an adapter; a tied model's output matrix has one too, though none in the checkpoint."""
        return (
            f"{self.module}.weight" if self.module and self.source.endswith(".weight") else self.module or self.source
        )

    @property
    def memory_bytes(self) -> int:
        """The bytes that stay in memory until the tensor is written."""
        arrays = [self.magnitudes, self.saved, self.order]
        arrays += [array for each in self.factors for array in (each.a, each.b)]
        return sum(array.nbytes for array in arrays if array is not None)

    def digest(self) -> bytes:
        """Return a hash of everything in this recipe that decides the tensor's bytes."""
        digest = hashlib.sha256(repr((self.name, self.source, self.shape)).encode())
        for array in (self.order, self.magnitudes, self.saved):
            digest.update(b"none" if array is None else hashlib.sha256(np.ascontiguousarray(array).data).digest())
        for each in self.factors:
            digest.update(repr((each.a.shape, each.b.shape, float(np.float32(each.scale)))).encode())
            digest.update(np.ascontiguousarray(each.a).data)
            digest.update(np.ascontiguousarray(each.b).data)
        return digest.digest()


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A file before it is planned: its architecture, metadata (in the file's order) and recipes (in the checkpoint's).

    `tied`: the embedding is also the output matrix, and the file has no `output.weight`. `output`: the recipe for an
    output matrix, used if an adapter of a tied model changes only one of the two.
    """

    architecture: str
    model: ModelShape
    metadata: Mapping[str, MetadataValue]
    recipes: tuple[TensorRecipe, ...]
    tied: bool = False
    output: TensorRecipe | None = None
