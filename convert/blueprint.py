"""The blueprint of a GGUF file: its metadata, and how each of its tensors is made from a checkpoint.

The code for an architecture (architectures/) makes the blueprint. Adapters are attached to it (merging.py), and the
plan adds each tensor's type and offset (plan.py).
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
    """How a tensor of the file is made from a tensor of the checkpoint, its source.

    - `source`: the source's name in the checkpoint. It is empty for a tensor that is computed from the configuration
      alone. Its values are then in `saved`, and no adapter changes it.
    - `shape`: the last dimension is contiguous, as in numpy.
    - `module`: the source's name in an adapter, which is the name without `.weight`.
    - `order`: for each row of the file's tensor, its row in the source. None if the rows stay in their places.
    - `adapter_order`: for each row of the source, its row in an adapter. None if both have the same order. They differ
      for queries and keys if the source is a GGUF file, because its rows were permuted when it was made.
    - `added`: a number that is added to each value of a vector, both the source's and an adapter's. For example,
      Gemma's checkpoints store a norm's weights minus 1, and llama.cpp's files store the weights.
    - `adapter_added`: the same number, but for an adapter's values only. It differs from `added` if the source is a
      GGUF file, because the number was added to its values when it was made.

    The other fields are set when adapters are attached. Their rows are in the source's order:

    - `factors`: pairs of factors, whose products are added.
    - `magnitudes` (DoRA): the norm to which each merged row is scaled.
    - `saved`: a tensor of the same shape that replaces the source.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    module: str = ""
    order: NDArray[np.uint32] | None = None
    adapter_order: NDArray[np.uint32] | None = None
    added: float = 0.0
    adapter_added: float = 0.0
    factors: tuple[Factors, ...] = ()
    magnitudes: NDArray[np.float32] | None = None
    saved: NDArray[np.float32] | None = None

    @property
    def key(self) -> str:
        """The tensor's name in an adapter.

        The output matrix of a tied model has a name in an adapter too, although the checkpoint does not contain the
        matrix.
        """
        return (
            f"{self.module}.weight" if self.module and self.source.endswith(".weight") else self.module or self.source
        )

    @property
    def memory_bytes(self) -> int:
        """How many bytes the recipe keeps in memory until its tensor is written."""
        arrays = [self.magnitudes, self.saved, self.order]
        arrays += [array for each in self.factors for array in (each.a, each.b)]
        return sum(array.nbytes for array in arrays if array is not None)

    def digest(self) -> bytes:
        """Return a hash of everything in this recipe that decides the tensor's bytes."""
        digest = hashlib.sha256(repr((self.name, self.source, self.shape, self.added)).encode())
        for array in (self.order, self.magnitudes, self.saved):
            digest.update(b"none" if array is None else hashlib.sha256(np.ascontiguousarray(array).data).digest())
        for each in self.factors:
            digest.update(repr((each.a.shape, each.b.shape, float(np.float32(each.scale)))).encode())
            digest.update(np.ascontiguousarray(each.a).data)
            digest.update(np.ascontiguousarray(each.b).data)
        return digest.digest()


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A GGUF file before it is planned.

    - `metadata`: the keys and values, in the file's order.
    - `recipes`: the tensors, in the checkpoint's order.
    - `tied`: whether the embedding is also the output matrix. If so, the file has no `output.weight`.
    - `output`: the recipe of a separate output matrix. It is used if a tied model's adapter changes only the embedding
      or only the output matrix.
    - `inseparable`: whether llama.cpp has no separate output matrix for this architecture.
    """

    architecture: str
    model: ModelShape
    metadata: Mapping[str, MetadataValue]
    recipes: tuple[TensorRecipe, ...]
    tied: bool = False
    output: TensorRecipe | None = None
    inseparable: bool = False
