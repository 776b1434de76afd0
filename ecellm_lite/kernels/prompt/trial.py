"""Tries out the prompt kernels: ggml must compute nearly the same results with them as without them."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.devices import PROMPT_KERNELS
from ecellm_lite.errors import EcellmError
from ecellm_lite.ggml import symbol
from ecellm_lite.ggml_quantizer import quantize_chunk
from ecellm_lite.tensor_types import CONVERTED, TensorType

# All types of the kernels, and shapes that are not multiples of a panel, a group or a slice of the depth. Few columns
# have code of their own.
_TYPES = ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
_ROWS, _COLUMNS, _FEW, _DEPTH = 40, 75, 3, 2560

_POINTER, _F32, _F16 = ctypes.c_void_p, 0, 1
_ON = 1  # any mode of enum ecellm_prompt_mode but OFF

# Two ways of quantizing activations to eight bits change a product by 0.7%; a wrong value changes it much more.
_TOLERANCE = 0.03


def check(native: Any, variant: str) -> None:
    """Raise EcellmError if this processor cannot run a variant, or if its results differ from ggml's own.

    The error's message is the reason. `native` is the library of kernels, already registered with ggml.
    """
    if native.ecellm_prompt_use(variant.encode(), _ON):
        raise EcellmError("this processor does not run that variant")
    try:
        _check()
    finally:
        native.ecellm_prompt_use(b"", 0)


def _check() -> None:
    generator = np.random.default_rng(3)
    weights = generator.standard_normal((_ROWS, _DEPTH), dtype=np.float32)
    x = generator.standard_normal((_COLUMNS, _DEPTH), dtype=np.float32)
    for name in _TYPES:
        kind = CONVERTED[name]
        blocks = quantize_chunk(weights, kind)
        for columns in (x, x[:_FEW]):
            expected, result = (product(blocks, kind, columns, device) for device in ("CPU", PROMPT_KERNELS))
            difference = np.linalg.norm(result - expected) / np.linalg.norm(expected)
            if not difference <= _TOLERANCE:
                raise EcellmError(f"a product with {name} weights differs from ggml's by {difference:.1%}")
    difference = _attention_difference(generator)
    if not difference <= _TOLERANCE:
        raise EcellmError(f"attention differs from ggml's by {difference:.1%}")


def _attention_difference(generator: np.random.Generator) -> float:
    """Return the relative difference between the kernels' attention and ggml's attention.

    The trial has three rows with a shared prefix.
    """
    tokens, prefix, cells, heads, width = 42, 30, 80, (4, 2), 64
    q, k, v = (
        generator.standard_normal(shape, dtype=np.float32)
        for shape in ((tokens, heads[0], width), (cells, heads[1], width), (cells, heads[1], width))
    )
    own, cell = np.arange(tokens)[:, None], np.arange(cells)[None, :] - prefix
    reads = (cell < 0) | ((cell // 14 == own // 14) & (cell <= own))
    operands = q, k.astype(np.float16), v.astype(np.float16), np.where(reads, 0, -np.inf).astype(np.float16)
    expected = attention(*operands, width**-0.5, "CPU")
    result = attention(*operands, width**-0.5, PROMPT_KERNELS)
    return float(np.linalg.norm(result - expected) / np.linalg.norm(expected))


class _Parameters(ctypes.Structure):
    """The C struct `ggml_init_params` of ggml.h."""

    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


def product(
    blocks: NDArray[np.uint8], kind: TensorType, x: NDArray[np.float32], device: str, *, threads: int = 1
) -> NDArray[np.float32]:
    """Return the product of quantized weights and `x` as a ggml device computes it, in the shape (columns, rows).

    `blocks` (rows, bytes of a row): the weights.
    `x` (columns, depth): the vectors to multiply by. Each vector gives one column of the product.

    Raises EcellmError if there is no such device, or if it fails. The error's message is the reason.
    """
    columns, depth = x.shape
    y = np.empty((columns, len(blocks)), dtype=np.float32)
    with _Graph(device, blocks.nbytes + x.nbytes + y.nbytes, threads) as graph:
        operands = graph.tensor(kind.number, (depth, len(blocks)), blocks), graph.tensor(_F32, (depth, columns), x)
        graph.compute(symbol("ggml_mul_mat", _POINTER, _POINTER, _POINTER, _POINTER)(graph.context, *operands), y)
    return y


def attention(
    q: NDArray[np.float32],
    k: NDArray[np.float16],
    v: NDArray[np.float16],
    mask: NDArray[np.float16],
    scale: float,
    device: str,
    *,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Compute the attention of each token and head on a ggml device. The result has the shape of `q`.

    `q`: (tokens, heads, width).
    `k`, `v`: (cells, KV heads, width).
    `mask`: (tokens, cells), added to the scores.
    """
    tokens, heads, width = q.shape
    cells, kv_heads, _ = k.shape
    y = np.empty(q.shape, dtype=np.float32)
    operands = (
        (_F32, (width, tokens, heads), q.swapaxes(0, 1)),
        (_F16, (width, cells, kv_heads), k.swapaxes(0, 1)),
        (_F16, (width, cells, kv_heads), v.swapaxes(0, 1)),
        (_F16, (cells, tokens), mask),
    )
    with _Graph(device, 2 * q.nbytes + k.nbytes + v.nbytes + mask.nbytes, threads) as graph:
        tensors = [graph.tensor(kind, shape, values) for kind, shape, values in operands]
        number = ctypes.c_float
        attend = symbol("ggml_flash_attn_ext", _POINTER, _POINTER, *[_POINTER] * 4, number, number, number)
        graph.compute(attend(graph.context, *tensors, scale, 0, 0), y)
    return y


class _Graph:
    """A ggml graph of one operation, computed by a device. `size`: how many bytes all its tensors need."""

    def __init__(self, device: str, size: int, threads: int) -> None:
        handle = symbol("ggml_backend_dev_by_name", _POINTER, ctypes.c_char_p)(device.encode())
        self._backend = (
            symbol("ggml_backend_dev_init", _POINTER, _POINTER, ctypes.c_char_p)(handle, None) if handle else None
        )
        self.context = symbol("ggml_init", _POINTER, _Parameters)(_Parameters(size + (1 << 20), None, False))
        if not self.context or not self._backend:
            self._free()
            raise EcellmError(f"ggml has no device {device}")
        self._device = device
        _set_threads(handle, self._backend, threads)

    def __enter__(self) -> _Graph:
        return self

    def __exit__(self, *_: object) -> None:
        self._free()

    def tensor(self, kind: int, shape: tuple[int, ...], values: NDArray[Any]) -> int:
        """Return a ggml tensor with a copy of the values. As in ggml, `shape` begins with the innermost dimension."""
        lengths = (ctypes.c_int64 * 4)(*shape)
        make = symbol("ggml_new_tensor", _POINTER, _POINTER, ctypes.c_int, ctypes.c_int, _POINTER)
        tensor: int = make(self.context, kind, len(shape), lengths)
        ctypes.memmove(self._data(tensor), values.tobytes(), values.nbytes)
        return tensor

    def compute(self, result: int, y: NDArray[np.float32]) -> None:
        """Compute the ggml tensor at the address `result`, and copy its values into `y`."""
        graph = symbol("ggml_new_graph", _POINTER, _POINTER)(self.context)
        symbol("ggml_build_forward_expand", None, _POINTER, _POINTER)(graph, result)
        if symbol("ggml_backend_graph_compute", ctypes.c_int, _POINTER, _POINTER)(self._backend, graph):
            raise EcellmError(f"ggml's device {self._device} failed to compute")
        ctypes.memmove(y.ctypes.data, self._data(result), y.nbytes)

    def _data(self, tensor: int) -> int:
        address: int = symbol("ggml_get_data", _POINTER, _POINTER)(tensor)
        return address

    def _free(self) -> None:
        if self._backend:
            symbol("ggml_backend_free", None, _POINTER)(self._backend)
        if self.context:
            symbol("ggml_free", None, _POINTER)(self.context)


def _set_threads(device: int, backend: int, threads: int) -> None:
    """Set a back end's number of threads, as llama.cpp does."""
    registry = symbol("ggml_backend_dev_backend_reg", _POINTER, _POINTER)(device)
    find = symbol("ggml_backend_reg_get_proc_address", _POINTER, _POINTER, ctypes.c_char_p)
    if address := find(registry, b"ggml_backend_set_n_threads"):
        ctypes.CFUNCTYPE(None, _POINTER, ctypes.c_int)(address)(backend, threads)
