"""A tensor that will be written to a GGUF file: its recipe (how it is computed), its type, and its offset."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.blueprint import TensorRecipe
from ecellm_lite.tensor_types import CONVERTED, TensorType


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor that will be written to a GGUF file. It is made by `recipe`.

    - `source_type`: the type of the rows before their conversion. It is the source's type, or F32 if the recipe
      replaces the source's values (`saved`) or adds a number to them (`added`).
    - `offset`: the tensor's first byte, counted from the beginning of the tensors' data.
    - `importance`: the imatrix's numbers for this tensor, one per column. None if `type` needs no numbers, or
      if the imatrix has none that fit this tensor.
    """

    recipe: TensorRecipe
    source_type: str
    type: TensorType
    offset: int
    importance: NDArray[np.float32] | None = None

    @property
    def name(self) -> str:
        """The tensor's name in the file."""
        return self.recipe.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape, with the contiguous dimension last."""
        return self.recipe.shape

    @property
    def columns(self) -> int:
        """The number of values in a row."""
        return self.shape[-1]

    @property
    def rows(self) -> int:
        """The number of rows. A vector counts as one row."""
        return math.prod(self.shape[:-1])

    @property
    def row_bytes(self) -> int:
        """The size of one row in the GGUF file, in bytes."""
        return self.type.row_bytes(self.columns)

    @property
    def size(self) -> int:
        """The size of the tensor in the file, in bytes, without padding."""
        return self.rows * self.row_bytes

    @property
    def read_bytes(self) -> int:
        """The number of bytes that are read from the source. It is 0 if an adapter's tensor replaces the source."""
        return 0 if self.recipe.saved is not None else self.rows * CONVERTED[self.source_type].row_bytes(self.columns)

    @property
    def bytes_per_weight(self) -> float:
        """The memory of one weight during the conversion, in bytes: its size in the source plus that in the file."""
        source = CONVERTED[self.source_type]
        return source.block_bytes / source.block + self.type.block_bytes / self.type.block

    def digest(self) -> bytes:
        """Return a hash of everything that the tensor's bytes depend on, except its type and the source's bytes."""
        digest = hashlib.sha256(self.recipe.digest() + self.source_type.encode())
        if self.importance is not None:
            digest.update(hashlib.sha256(self.importance.tobytes()).digest())
        return digest.digest()
