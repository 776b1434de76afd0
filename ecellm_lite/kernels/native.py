"""The library of kernels/ through ctypes, which releases the interpreter's lock while a function runs."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite import ggml
from ecellm_lite.errors import EcellmError
from ecellm_lite.kernels.conversion import Conversion, not_finite
from ecellm_lite.tensor_types import TensorType

VERSION = 3  # ECELLM_KERNELS_VERSION of ecellm_kernels.h

_NOT_FINITE = 6  # ECELLM_NOT_FINITE

# What the library reads by itself; the quantized types are widened by ggml's functions.
_VALUES = {"F32", "F16", "BF16"}

# What the library writes by itself: all but these where there is an imatrix, whose searches are ggml's.
_SEARCHED_BY_GGML = {"Q4_0", "Q4_1", "Q5_0", "Q5_1"}

# CMake gives a module the suffix .so on macOS too.
_FILE = "libecellm_kernels.dll" if sys.platform == "win32" else "libecellm_kernels.so"


class Place(ctypes.Structure):
    """struct ecellm_place."""

    _fields_ = (("row", ctypes.c_uint64), ("column", ctypes.c_uint64))


class AdapterFactors(ctypes.Structure):
    """struct ecellm_adapter."""

    _fields_ = (
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
        ("rank", ctypes.c_size_t),
        ("scale", ctypes.c_float),
    )


class Block(ctypes.Structure):
    """struct ecellm_block."""

    _fields_ = (
        ("rows", ctypes.c_size_t),
        ("columns", ctypes.c_size_t),
        ("source_type", ctypes.c_int),
        ("source", ctypes.c_void_p),
        ("source_stride", ctypes.c_size_t),
        ("source_size", ctypes.c_size_t),
        ("source_row_size", ctypes.c_size_t),
        ("to_float", ctypes.c_void_p),
        ("adapters", ctypes.POINTER(AdapterFactors)),
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
    """Return the native library, or None where the package was installed without a compiler.

    Raises EcellmError for a library of another version: half of an old install is still there.
    """
    path = Path(str(files("ecellm_lite").joinpath(_FILE)))
    if not path.is_file():
        return None
    try:
        native = ctypes.CDLL(str(path))
    except OSError as error:
        raise EcellmError(f"The kernels in {path} do not load ({error}): install ecellm-lite again.") from None
    version = native.ecellm_kernels_version()
    if version != VERSION:
        raise EcellmError(f"The kernels in {path} are of version {version}, not {VERSION}: install ecellm-lite again.")
    native.ecellm_variants.restype = native.ecellm_status_message.restype = ctypes.c_char_p
    native.ecellm_convert_block.argtypes = [
        ctypes.c_char_p,
        ctypes.POINTER(Block),
        ctypes.c_uint,
        ctypes.POINTER(Place),
    ]
    return native


def variants() -> list[str]:
    """Return the variants that this processor runs, best first; none without a library."""
    native = library()
    return native.ecellm_variants().decode().split() if native else []


def convert(conversion: Conversion, *, variant: str, threads: int = 1) -> NDArray[np.uint8]:
    """Return the block's rows in the target's type; see ecellm_lite.kernels.convert."""
    native = library()
    if native is None:
        raise EcellmError("This install has no native kernels: install a C++ compiler, then ecellm-lite again.")
    target = np.empty((conversion.rows, conversion.target.row_bytes(conversion.columns)), dtype=np.uint8)
    block = _block(conversion, target)
    place = Place()
    status = native.ecellm_convert_block(
        variant.encode(), ctypes.byref(block), min(max(1, threads), 1024), ctypes.byref(place)
    )
    if status == _NOT_FINITE:
        raise not_finite(place.row, place.column)
    if status:
        said = native.ecellm_status_message(status).decode()
        raise EcellmError(f"The kernels refused a block ({said}): please report this.")
    return target


def _block(conversion: Conversion, target: NDArray[np.uint8]) -> Block:
    source = conversion.source
    row_size = source.shape[1] * source.itemsize
    stride = source.strides[0] if len(source) > 1 else row_size
    factors = (AdapterFactors * len(conversion.adapters))(
        *[AdapterFactors(_data(one.a), _data(one.b), len(one.a), one.scale) for one in conversion.adapters]
    )
    return Block(
        rows=conversion.rows,
        columns=conversion.columns,
        source_type=conversion.kind.number,
        source=_data(source),
        source_stride=stride,
        source_size=max(0, conversion.rows - 1) * stride + row_size,
        source_row_size=row_size,
        to_float=_to_float(conversion.kind),
        adapters=factors,
        adapter_count=len(factors),
        magnitudes=_data(conversion.magnitudes),
        order=_data(conversion.order),
        target_type=conversion.target.number,
        importance=_data(conversion.importance),
        target=_data(target),
        target_size=target.nbytes,
        target_row_size=target.shape[1],
        quantize_chunk=ggml.quantize_chunk_address() if _is_ggmls(conversion) else None,
    )


def _is_ggmls(conversion: Conversion) -> bool:
    return conversion.importance is not None and conversion.target_type in _SEARCHED_BY_GGML


def _to_float(kind: TensorType) -> int | None:
    return None if kind.name in _VALUES else ggml.to_float(kind)


def _data(array: NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data
