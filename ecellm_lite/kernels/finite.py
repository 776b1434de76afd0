"""Finds overflow in converted rows: 16-bit values, scales and minima that became infinite or NaN.

If a finite weight is too large for a type, a quantizer stores an infinity without an error. A model with such a weight
computes NaN.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.tensor_types import TensorType

# Which of a block's 16-bit words are floats (structs of ggml-common.h); float32 was checked before.
_WORDS: Mapping[str, tuple[int, ...]] = {
    "F16": (0,), "BF16": (0,), "Q4_0": (0,), "Q4_1": (0, 1), "Q5_0": (0,), "Q5_1": (0, 1), "Q8_0": (0,),
    "Q2_K": (40, 41), "Q3_K": (54,), "Q4_K": (0, 1), "Q5_K": (0, 1), "Q6_K": (104,),
}  # fmt: skip

_PIECE = 1 << 18  # blocks at a time, which fit the processor's cache


def first_not_finite(rows: NDArray[np.uint8], kind: TensorType) -> tuple[int, int] | None:
    """Find the first quantized block with an infinity or NaN. Return the (row, column) at which it begins.

    Return None if there is no such block.

    `rows`: (rows, bytes of a row), contiguous.
    """
    words = rows.reshape(-1).view(np.uint16).reshape(-1, kind.block_bytes // 2)
    infinity = 0x7F80 if kind.name == "BF16" else 0x7C00
    blocks = []
    for word in _WORDS.get(kind.name, ()) if len(words) else ():
        for first in range(0, len(words), _PIECE):
            bits = np.ascontiguousarray(words[first : first + _PIECE, word])
            # Positive infinities and NaNs are the largest values as signed integers, negative ones as unsigned
            # integers.
            if bits.view(np.int16).max() >= infinity or bits.max() >= infinity | 0x8000:
                blocks.append(first + int(np.argmax(bits & infinity == infinity)))
                break
    if not blocks:
        return None
    row, block = divmod(min(blocks), len(words) // len(rows))
    return row, block * kind.block
