"""The Python interface of kernels/: converts rows of a checkpoint to rows of a GGUF file.

    Factors(a, b, scale)                 a LoRA adapter's factors for one matrix
    Block(source, "BF16", "Q4_K", …)     rows, with all that is needed to convert them
    convert(block)                       the rows' bytes: widened, merged, scaled, permuted and quantized
    quantize(weights, "Q4_K")            a matrix's bytes

There are two implementations, which compute the same bytes: one in C++, and one with numpy and ggml's functions. The
environment variable `ECELLM_KERNELS` names the variant to use: avx512, avx2, neon or baseline for C++, or `ggml` for
numpy and ggml's functions.

`is_exact` says whether a variant converts test weights to the expected bytes. A C++ variant that fails this test is
never used. The variant `ggml` fails the test if ggml was compiled to round a*b+c once instead of twice.

Even with a C++ variant, ggml's functions do two steps: reading a quantized source, and quantizing to Q4_0, Q4_1, Q5_0
or Q5_1 with an imatrix.
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
    """Convert the block's rows to the target type. The result has the shape (rows, bytes of a row).

    Raises ModelError if a result is infinite or NaN, before or after quantizing. The error names the row and the
    column.
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
    """Return float32 weights (rows, columns) as rows of the target type (rows, bytes of a row).

    `importance` (columns,): how much each column matters, from the imatrix.

    Raises UsageError if shapes do not fit. Raises ModelError if a weight is infinite, NaN, or too large for the type.
    The error names the row and the column.
    """
    return convert(Block(weights, "F32", target_type, importance=importance), threads=threads)
