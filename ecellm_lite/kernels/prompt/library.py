"""Calls the native library of kernels/prompt through ctypes."""

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
from ecellm_lite.tensor_types import TensorType

VERSION = 4  # ECELLM_PROMPT_VERSION of ecellm_prompt.h

# enum ecellm_prompt_status
_STATUS = {
    1: "this processor does not run that variant",
    2: "a ggml function that they need is missing",
    3: "this llama.cpp has other tensors than the one they were written for",
    4: "they have no kernel for that type or shape",
    5: "there is not enough memory",
}

# struct ecellm_ggml, in the same order
FUNCTIONS = (
    "ggml_graph_n_nodes",
    "ggml_graph_node",
    "ggml_backend_cpu_buffer_type",
    "ggml_backend_cpu_buffer_from_ptr",
    "ggml_backend_buft_is_host",
    "ggml_tensor_overhead",
)


class _Attention(ctypes.Structure):
    """The C struct `ecellm_attention`: the arguments of one attention computation."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "mask", "y")),
        *((f"{name}_stride", ctypes.c_size_t) for name in ("q", "q_head", "k", "k_head", "v", "v_head", "mask")),
        *((f"{name}_stride", ctypes.c_size_t) for name in ("y", "y_head")),
        *((name, ctypes.c_size_t) for name in ("width", "tokens", "cells", "heads", "kv_heads")),
        ("scale", ctypes.c_float),
        ("order", ctypes.c_void_p),
    )


def path() -> Path:
    """Return the library's path. The file is missing if the package was installed without the library."""
    # CMake gives a module the suffix .so on macOS too.
    name = "libecellm_prompt.dll" if sys.platform == "win32" else "libecellm_prompt.so"
    return Path(str(files("ecellm_lite").joinpath(name)))


@cache
def library(place: Path) -> Any:
    """Return the native library.

    Raises EcellmError if the library is missing, does not load, or has another version. The error's message is the
    reason.
    """
    if not place.is_file():
        raise EcellmError("this install has none: they are compiled for x86-64 and ARM by a C++ compiler with OpenMP")
    try:
        native = ctypes.CDLL(str(place))
        version = native.ecellm_prompt_version()
        native.ecellm_prompt_variants.restype = ctypes.c_char_p
        native.ecellm_prompt_products.restype = native.ecellm_prompt_attentions.restype = ctypes.c_uint64
        native.ecellm_prompt_start.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        native.ecellm_prompt_use.argtypes = [ctypes.c_char_p, ctypes.c_int]
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        native.ecellm_prompt_multiply.argtypes = [
            ctypes.c_char_p, ctypes.c_int, pointer, size, pointer, size, pointer, size, size, size, size, ctypes.c_int,
        ]  # fmt: skip
        native.ecellm_prompt_attend.argtypes = [ctypes.c_char_p, ctypes.POINTER(_Attention), ctypes.c_int]
    except (OSError, AttributeError) as error:
        raise EcellmError(f"their library does not load ({error})") from None
    if version != VERSION:
        raise EcellmError(f"their library has version {version} instead of {VERSION}")
    return native


def variants(native: Any) -> list[str]:
    """Return the variants that this processor can run, the fastest first."""
    names: list[str] = native.ecellm_prompt_variants().decode().split()
    return names


def register(native: Any, place: Path, least: int = 0) -> None:
    """Register the kernels as a ggml back end. They are off until `ecellm_prompt_use` chooses a variant.

    ggml uses them for products of at least `least` columns. If `least` is 0, the library chooses the number. Raises
    EcellmError if ggml or the library refuses. The error's message is the reason.
    """
    addresses = (ctypes.c_void_p * len(FUNCTIONS))(*[ggml.address(name) for name in FUNCTIONS])
    if status := native.ecellm_prompt_start(addresses, least):
        raise EcellmError(_STATUS.get(status, "their library refuses"))
    if not ggml.load_backend(place):
        raise EcellmError(f"ggml does not load them ({ggml.reason()})")


def shares_threads(native: Any) -> bool:
    """Whether the library and ggml share one thread pool. Two pools would compete for the cores."""
    theirs, own = ggml.address("GOMP_parallel"), getattr(native, "GOMP_parallel", None)
    return own is not None and ctypes.cast(own, ctypes.c_void_p).value == theirs


def multiply(
    blocks: NDArray[np.uint8], kind: TensorType, x: NDArray[np.float32], *, variant: str, threads: int = 1
) -> NDArray[np.float32]:
    """Return the product of quantized weights and `x`, in the shape (columns, rows).

    `blocks` (rows, bytes of a row): the weights.
    `x` (columns, depth): the vectors to multiply by. Each vector gives one column of the product.

    Raises EcellmError if the library refuses the product.
    """
    columns, depth = x.shape
    if blocks.shape[1] < kind.row_bytes(depth) or x.strides[1] != x.itemsize:
        raise EcellmError(f"Rows of {blocks.shape[1]:,} bytes do not hold {depth:,} weights as {kind.name}.")
    y = np.empty((columns, len(blocks)), dtype=np.float32)
    status = library(path()).ecellm_prompt_multiply(
        variant.encode(), kind.number, blocks.ctypes.data, blocks.strides[0], x.ctypes.data, x.strides[0],
        y.ctypes.data, y.strides[0], depth, len(blocks), columns, threads,
    )  # fmt: skip
    if status:
        raise EcellmError(f"The prompt kernels refused a product ({_STATUS.get(status, status)}).")
    return y


def attend(
    q: NDArray[np.float32],
    k: NDArray[np.float16],
    v: NDArray[np.float16],
    mask: NDArray[np.float16],
    scale: float,
    *,
    variant: str,
    threads: int = 1,
    order: NDArray[np.uint32] | None = None,
) -> NDArray[np.float32]:
    """Return the attention of each token and head, in the shape of `q`.

    `q`: (tokens, heads, width).
    `k`, `v`: (cells, KV heads, width).
    `mask`: (tokens, cells), added to the scores.
    `order`: the mask's column i is for row `order[i]` of `k` and `v`. By default, it is for row i.

    Raises EcellmError if the library refuses the shape.
    """
    tokens, heads, width = q.shape
    cells, kv_heads, _ = k.shape
    places = np.arange(cells, dtype=np.uint32) if order is None else order
    if v.shape != k.shape or mask.shape != (tokens, len(places)) or k.shape[2] != width or places.max() >= cells:
        raise EcellmError(f"Attention of {q.shape} over {k.shape}, {v.shape} with a mask of {mask.shape}.")
    if any(array.strides[-1] != array.itemsize for array in (q, k, v, mask)):
        raise EcellmError("The elements of a head must be neighbors.")
    y = np.empty(q.shape, dtype=np.float32)
    call = _Attention(
        *(array.ctypes.data for array in (q, k, v, mask, y)),
        *(stride for array in (q, k, v) for stride in array.strides[:2]),
        mask.strides[0],
        *y.strides[:2],
        *(width, tokens, len(places), heads, kv_heads),
        scale,
        places.ctypes.data,
    )
    status = library(path()).ecellm_prompt_attend(variant.encode(), ctypes.byref(call), threads)
    if status:
        raise EcellmError(f"The prompt kernels refused an attention ({_STATUS.get(status, status)}).")
    return y
