"""The Python interface of kernels/: converts rows of a checkpoint to those of a GGUF file, in C++ or by numpy and ggml.

    Factors(a, b, scale)                 a LoRA adapter's factors for one matrix
    Block(source, "BF16", "Q4_K", …)     rows, with all that is needed to convert them
    convert(block)                       their bytes: widened, merged, scaled, permuted and quantized
    quantize(weights, "Q4_K")            a matrix's bytes

The bytes are the same either way. `ECELLM_KERNELS` names the variant to use (avx512, avx2, neon, baseline, or `ggml`
for numpy and ggml's own functions). A native variant is used only if its results for test weights have the expected
hash. `is_exact` tells whether a variant's results have that hash; `ggml` has another one if ggml was built to fuse
a*b+c. Two steps are ggml's with every variant: reading a quantized source, and quantizing to Q4_0, Q4_1, Q5_0 or Q5_1
with an imatrix.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.kernels import native, plain
from ecellm_lite.kernels.block import Block, Factors, too_large
from ecellm_lite.kernels.choice import is_exact, name, variants
from ecellm_lite.kernels.finite import first_not_finite

__all__ = ["Block", "Factors", "convert", "is_exact", "name", "quantize", "variants"]


def convert(block: Block, *, threads: int = 1) -> NDArray[np.uint8]:
    """Return the block's rows in the target's type: (rows, bytes of a row).

    Raises ModelError with the place if a result is infinite or NaN, before or after it is quantized.
    """
    variant = name()
    if variant == "ggml":
        rows = plain.convert(block, threads=threads)
    else:
        rows = native.convert(block, variant=variant, threads=threads)
    if place := first_not_finite(rows, block.target):
        raise too_large(*place, block.target_type)
    return rows


def quantize(
    weights: NDArray[np.float32],
    target_type: str,
    importance: NDArray[np.float32] | None = None,
    *,
    threads: int = 1,
) -> NDArray[np.uint8]:
    """Return finite float32 weights, (rows, columns), as blocks of a type: (rows, bytes of a row).

    `importance`: the imatrix, (columns,). Raises UsageError if shapes do not fit, ModelError with the place if a weight
    is infinite, NaN, or too large for the type.
    """
    return convert(Block(weights, "F32", target_type, importance=importance), threads=threads)
