"""The kernels without native code of our own: numpy and ggml's quantizer, with the same bytes.

The sums are taken in the order that kernels/merge.h has, one rounding an operation.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ecellm_lite import ggml
from ecellm_lite.kernels.conversion import Conversion, not_finite

# Rows of one piece of work have about so many weights: what is in work besides the block stays small.
_PIECE = 1 << 20


def convert(conversion: Conversion, *, threads: int = 1) -> NDArray[np.uint8]:
    """Return the block's rows in the target's type; see ecellm_lite.kernels.convert."""
    rows, columns = conversion.rows, conversion.columns
    step = max(1, _PIECE // columns)
    target = np.empty((rows, conversion.target.row_bytes(columns)), dtype=np.uint8)

    def piece(first: int) -> None:
        places = np.arange(first, min(rows, first + step))
        weights = _merged(conversion, places if conversion.order is None else conversion.order[places])
        finite = np.isfinite(weights)
        if not finite.all():
            row, column = np.unravel_index(int(np.argmin(finite)), finite.shape)
            raise not_finite(first + int(row), int(column))
        target[places] = ggml.quantize_chunk(weights, conversion.target, conversion.importance)

    with ThreadPoolExecutor(max(1, threads)) as pool:
        # The first error in the rows' order is the one that is raised.
        for _ in pool.map(piece, range(0, rows, step)):
            pass
    return target


def _merged(conversion: Conversion, places: NDArray[np.integer]) -> NDArray[np.float32]:
    weights = widened(conversion.source[places], conversion)
    if conversion.adapters:
        delta = np.zeros_like(weights)
        for adapter in conversion.adapters:
            factors = np.float32(adapter.scale) * adapter.b[places]
            for rank in range(len(adapter.a)):
                delta += factors[:, rank, None] * adapter.a[rank]
        weights = weights + delta
    if conversion.magnitudes is not None:
        weights = weights * (conversion.magnitudes[places] / _norms(weights))[:, None]
    return weights


def widened(rows: NDArray[np.generic], conversion: Conversion) -> NDArray[np.float32]:
    """Return rows of the source as float32, exactly."""
    if conversion.source_type == "BF16":
        return (rows.astype(np.uint32) << 16).view(np.float32)
    if conversion.source_type in ("F32", "F16"):
        return rows.astype(np.float32)
    return ggml.dequantize(rows.view(np.uint8), conversion.kind, conversion.columns)


def _norms(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows' norms: eight sums over every eighth column, in doubles, then their sum from left to right."""
    rows, columns = weights.shape
    padded = np.zeros((rows, -(-columns // 8) * 8))
    padded[:, :columns] = weights
    eights = (padded * padded).reshape(rows, -1, 8)
    sums = np.add.accumulate(eights, axis=1)[:, -1, :]
    total = np.add.accumulate(sums, axis=1)[:, -1]
    norms: NDArray[np.float32] = np.sqrt(total).astype(np.float32)
    return norms
