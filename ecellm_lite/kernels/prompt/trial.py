"""The kernels' trial: checks that ggml computes nearly the same products with the kernels as without."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from ecellm_lite import ggml
from ecellm_lite.errors import EcellmError
from ecellm_lite.ggml import symbol
from ecellm_lite.tensor_types import CONVERTED, TensorType

# One type for each code path of the kernels, and shapes that are not multiples of a panel or a group.
_TYPES = ("Q8_0", "Q4_0", "Q4_K", "Q6_K")
_ROWS, _COLUMNS, _DEPTH = 40, 20, 512

# Two ways of quantizing activations to eight bits change a product by 0.7%; a wrong value changes it much more.
_TOLERANCE = 0.03


def check() -> None:
    """If the kernels' results differ from ggml's own, raise EcellmError with the reason as its whole message."""
    generator = np.random.default_rng(3)
    weights = generator.standard_normal((_ROWS, _DEPTH), dtype=np.float32)
    x = generator.standard_normal((_COLUMNS, _DEPTH), dtype=np.float32)
    for name in _TYPES:
        kind = CONVERTED[name]
        blocks = ggml.quantize_chunk(weights, kind)
        expected, result = product(blocks, kind, x, "CPU"), product(blocks, kind, x, ggml.PROMPT_KERNELS)
        difference = np.linalg.norm(result - expected) / np.linalg.norm(expected)
        if not difference <= _TOLERANCE:
            raise EcellmError(f"a product with {name} weights differs from ggml's by {difference:.1%}")


class _Parameters(ctypes.Structure):
    """struct ggml_init_params of ggml.h."""

    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


def product(
    blocks: NDArray[np.uint8], kind: TensorType, x: NDArray[np.float32], device: str, *, threads: int = 1
) -> NDArray[np.float32]:
    """Return the product of quantized weights and `x` as a ggml device computes it, in the shape (columns, rows).

    `blocks` (rows, bytes of a row): the weights.
    `x` (columns, depth): the vectors to multiply by. Each vector gives one column of the product.

    If there is no such device, or it fails, raises EcellmError; its message is the reason.
    """
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    columns, depth = x.shape
    room = blocks.nbytes + 4 * columns * (depth + len(blocks)) + (1 << 20)
    context = symbol("ggml_init", pointer, _Parameters)(_Parameters(room, None, False))
    handle = symbol("ggml_backend_dev_by_name", pointer, ctypes.c_char_p)(device.encode())
    backend = symbol("ggml_backend_dev_init", pointer, pointer, ctypes.c_char_p)(handle, None) if handle else None
    if not context or not backend:
        raise EcellmError(f"ggml has no device {device}")
    try:
        matrix = symbol("ggml_new_tensor_2d", pointer, pointer, ctypes.c_int, number, number)
        data = symbol("ggml_get_data", pointer, pointer)
        w, activations = matrix(context, kind.number, depth, len(blocks)), matrix(context, 0, depth, columns)
        for tensor, values in ((w, blocks.tobytes()), (activations, x.tobytes())):
            ctypes.memmove(data(tensor), values, len(values))
        y = symbol("ggml_mul_mat", pointer, pointer, pointer, pointer)(context, w, activations)
        graph = symbol("ggml_new_graph", pointer, pointer)(context)
        symbol("ggml_build_forward_expand", None, pointer, pointer)(graph, y)
        _set_threads(handle, backend, threads)
        if symbol("ggml_backend_graph_compute", ctypes.c_int, pointer, pointer)(backend, graph):
            raise EcellmError(f"ggml's device {device} failed to compute a product")
        result = np.empty((columns, len(blocks)), dtype=np.float32)
        ctypes.memmove(result.ctypes.data, data(y), result.nbytes)
        return result
    finally:
        symbol("ggml_backend_free", None, pointer)(backend)
        symbol("ggml_free", None, pointer)(context)


def _set_threads(device: int, backend: int, threads: int) -> None:
    """Set a back end's number of threads, as llama.cpp does."""
    pointer = ctypes.c_void_p
    registry = symbol("ggml_backend_dev_backend_reg", pointer, pointer)(device)
    find = symbol("ggml_backend_reg_get_proc_address", pointer, pointer, ctypes.c_char_p)
    if address := find(registry, b"ggml_backend_set_n_threads"):
        ctypes.CFUNCTYPE(None, pointer, ctypes.c_int)(address)(backend, threads)
