"""The Python face of kernels/: a checkpoint's rows become a file's, natively or by numpy and ggml, with the same bytes.

    Adapter(a, b, scale)                     one LoRA adapter's factors of a matrix
    Conversion(source, "BF16", "Q4_K", …)    what is to be done with a block of rows
    convert(conversion)                      the block's bytes: widened, merged, scaled, permuted and quantized
    quantize(weights, "Q4_K")                a matrix's bytes

`ECELLM_KERNELS` names the variant to use (avx512, avx2, neon, baseline; `ggml` for none). A variant is used only if it
gives the right answer to a question whose answer is known. ggml's own functions are used where there is no other:
`is_exact` says whether they give that answer too, which a build that fuses a*b+c does not. With every variant, ggml's
functions widen a quantized source, and search for Q4_0, Q4_1, Q5_0 and Q5_1 where there is an imatrix.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.kernels import native, plain
from ecellm_lite.kernels.choice import is_exact, name, variants
from ecellm_lite.kernels.conversion import Adapter, Conversion, too_large
from ecellm_lite.kernels.finite import first_not_finite

__all__ = ["Adapter", "Conversion", "convert", "is_exact", "name", "quantize", "variants"]


def convert(conversion: Conversion, *, threads: int = 1) -> NDArray[np.uint8]:
    """Return the block's rows in the target's type: (rows, bytes of a row).

    Raises ModelError with the place if a result is infinite or not a number, before or after it is quantized.
    """
    chosen = name()
    if chosen == "ggml":
        found = plain.convert(conversion, threads=threads)
    else:
        found = native.convert(conversion, variant=chosen, threads=threads)
    if place := first_not_finite(found, conversion.target):
        raise too_large(*place, conversion.target_type)
    return found


def quantize(
    weights: NDArray[np.float32],
    target_type: str,
    importance: NDArray[np.float32] | None = None,
    *,
    threads: int = 1,
) -> NDArray[np.uint8]:
    """Return finite float32 weights, (rows, columns), as blocks of a type: (rows, bytes of a row).

    `importance`: the imatrix, (columns,). Raises UsageError for shapes that do not fit, ModelError with the place for
    a weight that is infinite, not a number, or too large for the type.
    """
    return convert(Conversion(weights, "F32", target_type, importance=importance), threads=threads)
