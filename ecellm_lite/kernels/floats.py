"""The types of weights that are plain floats, and the numpy type of each.

numpy has no bfloat16, so the bits of bfloat16 are stored as uint16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# By the type's name in safetensors and GGUF files.
FLOATS: Mapping[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def widened(values: NDArray[Any], kind: str) -> NDArray[np.float32]:
    """Return values as float32, without rounding. `kind` is their type, one of the keys of FLOATS."""
    if kind == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)
