"""Python versions of the quantization kernels, for machines without this package's native code.

They use numpy and ggml's quantizer, and compute the same bytes as the native code. Sums are computed in the order of
kernels/merge.h, with one rounding per operation.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ecellm_lite import ggml_quantizer
from ecellm_lite.kernels.block import Block, not_finite
from ecellm_lite.kernels.floats import FLOATS, widened

_PIECE = 1 << 20  # weights per piece; small, so that little memory is needed in addition to the block


def convert(block: Block, *, threads: int = 1) -> NDArray[np.uint8]:
    """Convert the block's rows to the target type. The result has the shape (rows, bytes of a row).

    Raises ModelError if a weight is infinite or NaN before quantizing. The error names the row and the column.
    """
    rows, columns = block.rows, block.columns
    step = max(1, _PIECE // columns)
    target = np.empty((rows, block.target.row_bytes(columns)), dtype=np.uint8)

    def piece(first: int) -> None:
        places = np.arange(first, min(rows, first + step))
        with np.errstate(all="ignore"):  # results are checked below
            weights = _merged(block, places if block.order is None else block.order[places])
        finite = np.isfinite(weights)
        if not finite.all():
            row, column = np.unravel_index(int(np.argmin(finite)), finite.shape)
            raise not_finite(first + int(row), int(column))
        target[places] = ggml_quantizer.quantize_chunk(weights, block.target, block.importance)

    with ThreadPoolExecutor(max(1, threads)) as pool:
        # map raises the first error in the order of the rows.
        for _ in pool.map(piece, range(0, rows, step)):
            pass
    return target


def _merged(block: Block, places: NDArray[np.integer]) -> NDArray[np.float32]:
    weights = _weights(block, places)
    if block.adapters:
        delta = np.zeros_like(weights)
        for adapter in block.adapters:
            factors = np.float32(adapter.scale) * adapter.b[places]
            for rank in range(len(adapter.a)):
                delta += factors[:, rank, None] * adapter.a[rank]
        weights = weights + delta
    if block.magnitudes is not None:
        weights = weights * (block.magnitudes[places] / _norms(weights))[:, None]
    return weights


def _weights(block: Block, places: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return, in float32, the source's rows that have the indexes `places`. The conversion is exact."""
    rows = block.source[places]
    if block.source_type in FLOATS:
        return widened(rows, block.source_type)
    return ggml_quantizer.dequantize(rows, block.source_kind, block.columns)


def _norms(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each row's Euclidean norm.

    The squares are added as doubles, in the order of kernels/merge.h. There are eight sums. The square in column i
    belongs to the sum with the index i mod 8. At the end, the eight sums are added.
    """
    rows, columns = weights.shape
    padded = np.zeros((rows, -(-columns // 8) * 8))
    padded[:, :columns] = weights
    eights = (padded * padded).reshape(rows, -1, 8)
    sums = np.add.accumulate(eights, axis=1)[:, -1, :]
    total = np.add.accumulate(sums, axis=1)[:, -1]
    norms: NDArray[np.float32] = np.sqrt(total).astype(np.float32)
    return norms
