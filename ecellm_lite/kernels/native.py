"""Calls the native library of kernels/ through ctypes, which releases the interpreter's lock during a call."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite import ggml_quantizer
from ecellm_lite.errors import EcellmError
from ecellm_lite.kernels.block import Block, not_finite
from ecellm_lite.kernels.floats import FLOATS

VERSION = 3  # ECELLM_KERNELS_VERSION of ecellm_kernels.h

_NOT_FINITE = 6  # ECELLM_NOT_FINITE

# With an imatrix, ggml quantizes to these.
_SEARCHED_BY_GGML = {"Q4_0", "Q4_1", "Q5_0", "Q5_1"}

# CMake gives a module the suffix .so on macOS too.
_FILE = "libecellm_kernels.dll" if sys.platform == "win32" else "libecellm_kernels.so"


class _PlaceStruct(ctypes.Structure):
    """The C struct `ecellm_place`: the row and column of a value that was refused."""

    _fields_ = (("row", ctypes.c_uint64), ("column", ctypes.c_uint64))


class _AdapterStruct(ctypes.Structure):
    """The C struct `ecellm_adapter`: an adapter's two factors (`a`, `b`), their rank and their scale."""

    _fields_ = (
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
        ("rank", ctypes.c_size_t),
        ("scale", ctypes.c_float),
    )


class _BlockStruct(ctypes.Structure):
    """The C struct `ecellm_block`, which describes a block of rows to convert."""

    _fields_ = (
        ("rows", ctypes.c_size_t),
        ("columns", ctypes.c_size_t),
        ("source_type", ctypes.c_int),
        ("source", ctypes.c_void_p),
        ("source_stride", ctypes.c_size_t),
        ("source_size", ctypes.c_size_t),
        ("source_row_size", ctypes.c_size_t),
        ("to_float", ctypes.c_void_p),
        ("adapters", ctypes.POINTER(_AdapterStruct)),
        ("adapter_count", ctypes.c_size_t),
        ("magnitudes", ctypes.c_void_p),
        ("order", ctypes.c_void_p),
        ("target_type", ctypes.c_int),
        ("importance", ctypes.c_void_p),
        ("target", ctypes.c_void_p),
        ("target_size", ctypes.c_size_t),
        ("target_row_size", ctypes.c_size_t),
        ("quantize_chunk", ctypes.c_void_p),
    )


@cache
def library() -> ctypes.CDLL | None:
    """Return the native library, or None if the package was installed without a compiler.

    Raises EcellmError for a library of another version, left over from an old install.
    """
    path = Path(str(files("ecellm_lite").joinpath(_FILE)))
    if not path.is_file():
        return None
    try:
        native = ctypes.CDLL(str(path))
    except OSError as error:
        raise EcellmError(
            f"The kernels in {path} do not load ({error})", step="install ecellm-lite again", file=str(path)
        ) from None
    version = native.ecellm_kernels_version()
    if version != VERSION:
        raise EcellmError(
            f"The kernels in {path} have version {version} instead of {VERSION}",
            step="install ecellm-lite again",
            file=str(path),
        )
    native.ecellm_variants.restype = native.ecellm_status_message.restype = ctypes.c_char_p
    native.ecellm_convert_block.argtypes = [
        ctypes.c_char_p,
        ctypes.POINTER(_BlockStruct),
        ctypes.c_uint,
        ctypes.POINTER(_PlaceStruct),
    ]
    return native


def variants() -> list[str]:
    """Return the variants that this processor can run, best first. If the library is missing, return an empty list."""
    native = library()
    return native.ecellm_variants().decode().split() if native else []


def convert(block: Block, *, variant: str, threads: int = 1) -> NDArray[np.uint8]:
    """Convert the block's rows to the target type with a C++ variant. The result has the shape (rows, bytes of a row).

    Raises ModelError if a weight is infinite or NaN before quantizing, and EcellmError if there are no native kernels
    or they refuse the block.
    """
    native = library()
    if native is None:
        raise EcellmError(
            "This install has no native kernels", step="install a C++ compiler, then install ecellm-lite again"
        )
    target = np.empty((block.rows, block.target.row_bytes(block.columns)), dtype=np.uint8)
    struct, place = _struct(block, target), _PlaceStruct()
    status = native.ecellm_convert_block(
        variant.encode(), ctypes.byref(struct), min(max(1, threads), 1024), ctypes.byref(place)
    )
    if status == _NOT_FINITE:
        raise not_finite(place.row, place.column)
    if status:
        message = native.ecellm_status_message(status).decode()
        raise EcellmError(f"The kernels refused a block ({message})", step="report this")
    return target


def _struct(block: Block, target: NDArray[np.uint8]) -> _BlockStruct:
    source = block.source
    row_size = source.shape[1] * source.itemsize
    stride = source.strides[0] if len(source) > 1 else row_size
    adapters = (_AdapterStruct * len(block.adapters))(
        *[
            _AdapterStruct(_data(adapter.a), _data(adapter.b), len(adapter.a), adapter.scale)
            for adapter in block.adapters
        ]
    )
    searched_by_ggml = block.importance is not None and block.target_type in _SEARCHED_BY_GGML
    return _BlockStruct(
        rows=block.rows,
        columns=block.columns,
        source_type=block.source_kind.number,
        source=_data(source),
        source_stride=stride,
        source_size=max(0, block.rows - 1) * stride + row_size,
        source_row_size=row_size,
        to_float=None if block.source_type in FLOATS else ggml_quantizer.to_float(block.source_kind),
        adapters=adapters,
        adapter_count=len(adapters),
        magnitudes=_data(block.magnitudes),
        order=_data(block.order),
        target_type=block.target.number,
        importance=_data(block.importance),
        target=_data(target),
        target_size=target.nbytes,
        target_row_size=target.shape[1],
        quantize_chunk=ggml_quantizer.quantize_chunk_address() if searched_by_ggml else None,
    )


def _data(array: NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data
