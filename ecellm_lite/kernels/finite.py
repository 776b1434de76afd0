"""The 16-bit floats of converted rows: values, scales and minimums, which a finite weight can be too large for.

A quantizer writes an infinity there without a word, and a model that reads it answers with what is not a number.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.tensor_types import TensorType

# Which 16-bit words of a block they are (the structs of ggml-common.h); float32 was looked at before it was written.
_WORDS: Mapping[str, tuple[int, ...]] = {
    "F16": (0,), "BF16": (0,), "Q4_0": (0,), "Q4_1": (0, 1), "Q5_0": (0,), "Q5_1": (0, 1), "Q8_0": (0,),
    "Q2_K": (40, 41), "Q3_K": (54,), "Q4_K": (0, 1), "Q5_K": (0, 1), "Q6_K": (104,),
}  # fmt: skip

_PIECE = 1 << 18  # blocks at a time: what is in work stays in the processor's cache


def first_not_finite(rows: NDArray[np.uint8], kind: TensorType) -> tuple[int, int] | None:
    """Return the row and the first column of the first block with such a float that is infinite or not a number.

    `rows`: (rows, bytes of a row), contiguous.
    """
    words = rows.reshape(-1).view(np.uint16).reshape(-1, kind.block_bytes // 2)
    infinity = 0x7F80 if kind.name == "BF16" else 0x7C00
    found = []
    for word in _WORDS.get(kind.name, ()) if len(words) else ():
        for first in range(0, len(words), _PIECE):
            bits = np.ascontiguousarray(words[first : first + _PIECE, word])
            # What is not finite is largest as a whole number: with a sign where it is above 0, without where below.
            if bits.view(np.int16).max() >= infinity or bits.max() >= infinity | 0x8000:
                found.append(first + int(np.argmax(bits & infinity == infinity)))
                break
    if not found:
        return None
    row, block = divmod(min(found), len(words) // len(rows))
    return row, block * kind.block
