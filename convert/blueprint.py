"""What a checkpoint becomes in a GGUF file: its metadata, and where each of the file's tensors comes from.

An architecture draws it (architectures/), adapters are hung into it, and the plan says at which types and offsets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.mixture import Model

# A value of a GGUF file's metadata with gguf-py's name of its type (GGUFValueType): UINT32, FLOAT32, STRING, ARRAY, …
Value: TypeAlias = "tuple[str, Any]"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A tensor of the file: `name` there, `source` in the checkpoint, its shape with the contiguous dimension last.

    `module`: what an adapter calls it (the source without `.weight`). `order`, (rows,): the source's row for each row
    of the file's tensor, where the architecture permutes them. `adapter_order`, (rows,): the adapter's row for each row
    of the source, where the source has been permuted and the adapter has not.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    module: str = ""
    order: NDArray[np.uint32] | None = None
    adapter_order: NDArray[np.uint32] | None = None


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A file before it is planned: architecture, metadata in the file's order, tensors in the checkpoint's.

    `tied`: the embedding is the output matrix too, and the file has no `output.weight`. `output`: the recipe for one,
    for a tied model whose adapter changes its output matrix alone.
    """

    architecture: str
    model: Model
    metadata: Mapping[str, Value]
    recipes: tuple[Recipe, ...]
    tied: bool = False
    output: Recipe | None = None
