"""The blueprint of a GGUF file: its metadata, and a recipe to make each of its tensors from a checkpoint.

The code for an architecture (architectures/) makes the blueprint. merging.py adds the changes of adapters to it, and
plan.py adds the type and offset of each tensor.
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
    """A recipe to make a tensor of the GGUF file from a tensor of the checkpoint, which is called its source.

    - `source`: the source's name in the checkpoint. It is empty for a tensor that is computed from the configuration
      alone. The values of such a tensor are in `saved`, and adapters do not change it.
    - `shape`: the shape, whose last dimension is contiguous, as in NumPy.
    - `module`: the name that adapters use for the tensor. In most cases, it is the source's name without `.weight`.
    - `order`: for each row of the file's tensor, the number of the source row that it comes from. None if the order is
      the same.
    - `adapter_order`: for each row of the source, the number of the matching row in an adapter. None if the order is
      the same. It differs for queries and keys if the source is a GGUF file, because the conversion to GGUF permuted
      their rows.
    - `added`: a number that is added to each value of the tensor (a vector). For example, Gemma's checkpoints store a
      norm's weights minus 1, and GGUF files store the weights.
    - `adapter_added`: a number that is added to each value of an adapter's tensor that replaces the source. It is 0
      unless the source is a GGUF file, whose values already include the number, while the adapter's do not.

    The other fields are set when adapters are attached. Their rows are in the source's order:

    - `factors`: pairs of an adapter's factors A and B. The product of each pair is scaled and added to the source.
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

        If a model uses its embedding as the output matrix too (tied), the output matrix has no name in the checkpoint,
        but it has one in an adapter.
        """
        return (
            f"{self.module}.weight" if self.module and self.source.endswith(".weight") else self.module or self.source
        )

    @property
    def memory_bytes(self) -> int:
        """The size in bytes of the arrays that the recipe keeps in memory."""
        arrays = [self.magnitudes, self.saved, self.order]
        arrays += [array for each in self.factors for array in (each.a, each.b)]
        return sum(array.nbytes for array in arrays if array is not None)

    def digest(self) -> bytes:
        """Return a hash of all fields that the bytes of the tensor depend on."""
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
    """What a GGUF file will contain. Offsets and quantization types are not decided yet.

    - `metadata`: the metadata by key, in the file's order.
    - `recipes`: how each tensor is made. The plan, which comes later, decides the tensors' order in the file.
    - `tied`: whether the embedding is also the output matrix. If so, the file has no `output.weight`.
    - `output`: for a tied model, the recipe of a separate output matrix. It is needed if an adapter changes only the
      embedding, or only the output matrix.
    - `inseparable`: true if llama.cpp cannot use a separate output matrix for this architecture.
    """

    architecture: str
    model: ModelShape
    metadata: Mapping[str, MetadataValue]
    recipes: tuple[TensorRecipe, ...]
    tied: bool = False
    output: TensorRecipe | None = None
    inseparable: bool = False
