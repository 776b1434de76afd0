"""Quantizes weights and reads quantized weights with ggml's own functions."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.errors import EcellmError
from ecellm_lite.ggml import symbol
from ecellm_lite.tensor_types import CONVERTED, TensorType


class _TypeTraits(ctypes.Structure):
    """struct ggml_type_traits of ggml.h, up to the last field used here."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.c_void_p),
    )


def to_float(kind: TensorType) -> int:
    """Return the address of ggml's function that turns blocks of a type into float32.

    The function's arguments are pointers to the blocks and to the float32 weights, and the count of weights as int64.

    Raises EcellmError if the library's struct does not have the expected layout.
    """
    traits = symbol("ggml_get_type_traits", ctypes.POINTER(_TypeTraits), ctypes.c_int)(kind.number).contents
    if (traits.blck_size, traits.type_size) != (kind.block, kind.block_bytes) or not traits.to_float:
        raise EcellmError(
            f"llama.cpp describes {kind.name} differently", step="install llama-cpp-python>=0.3.36,<0.4 again"
        )
    return int(traits.to_float)


def quantize_chunk_address() -> int:
    """Return the address of ggml_quantize_chunk."""
    return int(ctypes.cast(_quantize_chunk(), ctypes.c_void_p).value or 0)


def dequantize(blocks: NDArray[np.uint8], kind: TensorType, columns: int) -> NDArray[np.float32]:
    """Return the float32 weights (rows, columns) that ggml computes from quantized rows (rows, bytes)."""
    source = np.ascontiguousarray(blocks)
    weights = np.empty((len(source), columns), dtype=np.float32)
    if source.shape[1] != kind.row_bytes(columns):
        raise EcellmError(f"A row of {columns:,} weights as {kind.name} does not take {source.shape[1]:,} bytes.")
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(to_float(kind))
    function(source.ctypes.data, weights.ctypes.data, weights.size)
    return weights


def quantize_chunk(
    weights: NDArray[np.float32], kind: TensorType, importance: NDArray[np.float32] | None = None
) -> NDArray[np.uint8]:
    """Return the blocks (rows, bytes) that ggml's quantizer makes from finite weights (rows, columns).

    `importance` (columns,): how much each column matters, from the imatrix. The GIL is released during the call.
    """
    source = np.ascontiguousarray(weights, dtype=np.float32)
    rows, columns = source.shape
    # In each of these cases ggml would abort the process.
    if kind.name not in CONVERTED or columns == 0 or columns % kind.block:
        raise EcellmError(
            f"A row of {columns:,} weights cannot be quantized to {kind.name}, in blocks of {kind.block}."
        )
    target = np.empty((rows, kind.row_bytes(columns)), dtype=np.uint8)
    imatrix = None if importance is None else np.ascontiguousarray(importance, dtype=np.float32)
    if imatrix is not None and imatrix.shape != (columns,):
        raise EcellmError(f"The imatrix has the shape {imatrix.shape}, not ({columns},).")
    if rows:
        data = None if imatrix is None else imatrix.ctypes.data
        _quantize_chunk()(kind.number, source.ctypes.data, target.ctypes.data, 0, rows, columns, data)
    return target


def _quantize_chunk() -> Any:
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    return symbol("ggml_quantize_chunk", ctypes.c_size_t, ctypes.c_int, pointer, pointer, count, count, count, pointer)
