"""Uses llama.cpp's shared libraries for everything except inference: devices, versions, and ggml's quantizer.

All symbols come from the library that the package llama_cpp has loaded. The package installs several copies of it.
Opening another copy would start a second ggml with its own list of devices.
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.backends import CpuVariant, cpu_variants, library_path, load_backends
from ecellm_lite.binding import llama
from ecellm_lite.binding import version as binding_version
from ecellm_lite.errors import EcellmError
from ecellm_lite.tensor_types import CONVERTED, TensorType

# llama.cpp's file types (llama.h, enum llama_ftype), by their common names.
FILE_TYPES = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q8_0": 7,
    "Q5_0": 8,
    "Q5_1": 9,
    "Q2_K": 10,
    "Q3_K_S": 11,
    "Q3_K_M": 12,
    "Q3_K_L": 13,
    "Q4_K_S": 14,
    "Q4_K_M": 15,
    "Q5_K_S": 16,
    "Q5_K_M": 17,
    "Q6_K": 18,
    "BF16": 32,
}


# enum ggml_backend_dev_type of ggml-backend.h, in its order.
KINDS = ("cpu", "gpu", "integrated gpu", "accelerator", "meta")

# The device of this package's own prompt kernels, once they are loaded. It is not a device of llama.cpp's build.
PROMPT_KERNELS = "ecellm"

_ERROR = 4  # GGML_LOG_LEVEL_ERROR, which the binding does not define

_errors: deque[str] = deque(maxlen=3)
_interrupted = False


def _note_error(level: int, text: bytes, _data: Any) -> None:
    try:
        if level == _ERROR:
            _errors.append(_text(text).strip())
    except KeyboardInterrupt:
        _keep_interrupt()


_note = llama.llama_log_callback(_note_error)


def _keep_interrupt() -> None:
    """Remember a KeyboardInterrupt for the caller of llama.cpp: ctypes would drop an exception raised in a callback."""
    global _interrupted
    _interrupted = True


def is_logging(frame: FrameType | None) -> bool:
    """Return whether an interrupt arrived while our log callback ran. If so, remember it.

    `frame` is the Python frame that was interrupted. An interrupt must not raise an exception there. ctypes would drop
    it, and the callback cannot catch an exception that comes before its first line.
    """
    while frame and frame.f_code is not _note_error.__code__:
        frame = frame.f_back
    if frame:
        _keep_interrupt()
    return frame is not None


def check_interrupt() -> None:
    """Raise the KeyboardInterrupt that arrived while llama.cpp was logging, if there was one."""
    global _interrupted
    if _interrupted:
        _interrupted = False
        raise KeyboardInterrupt


@cache
def start_library() -> None:
    """Start llama.cpp once. Only the last errors of its log are kept; `reason` returns them.

    Raises EcellmError if llama.cpp's build has no code for this processor.
    """
    # The callback must live as long as the library: if it is garbage-collected, the process crashes.
    llama.llama_log_set(_note, ctypes.c_void_p(0))
    load_backends()
    llama.llama_backend_init()


def operation(number: int) -> str:
    """Return the name of an operation by its number in enum ggml_op."""
    return _text(symbol("ggml_op_name", ctypes.c_char_p, ctypes.c_int)(number))


def reason() -> str:
    """Return llama.cpp's last errors, for use in a message, and clear them."""
    message = "; ".join(_errors) or "it gave no reason"
    _errors.clear()
    return message


@dataclass(frozen=True, slots=True)
class Device:
    """A device that this build of llama.cpp can compute on. Its memory is in bytes, or 0 if unknown.

    `kind` is one of KINDS; `backend` is ggml's name for its driver (CPU, CUDA, MTL, Vulkan). Two devices with the same
    `id` are one card with two drivers. `id` is empty if unknown.
    """

    name: str
    description: str
    kind: str
    free: int
    total: int
    backend: str = ""
    id: str = ""


class _Properties(ctypes.Structure):
    """struct ggml_backend_dev_props of ggml-backend.h, with extra space for fields of later versions."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("more", ctypes.c_char * 64),
    )


def devices() -> list[Device]:
    """Return the devices of llama.cpp's build: the CPU, and the GPUs that it has a back end for."""
    start_library()
    count = symbol("ggml_backend_dev_count", ctypes.c_size_t)()
    get = symbol("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    name = symbol("ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)
    description = symbol("ggml_backend_dev_description", ctypes.c_char_p, ctypes.c_void_p)
    kind = symbol("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    registry = symbol("ggml_backend_dev_backend_reg", ctypes.c_void_p, ctypes.c_void_p)
    registry_name = symbol("ggml_backend_reg_name", ctypes.c_char_p, ctypes.c_void_p)
    size = ctypes.POINTER(ctypes.c_size_t)
    memory = symbol("ggml_backend_dev_memory", None, ctypes.c_void_p, size, size)
    properties_of = symbol("ggml_backend_dev_get_props", None, ctypes.c_void_p, ctypes.POINTER(_Properties))
    entries = []
    for index in range(count):
        device = get(index)
        if _text(name(device)) == PROMPT_KERNELS:
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        memory(device, ctypes.byref(free), ctypes.byref(total))
        properties = _Properties()
        properties_of(device, ctypes.byref(properties))
        entries.append(
            Device(
                name=_text(name(device)),
                description=_text(description(device)).strip(),
                kind=KINDS[kind(device)],
                free=free.value,
                total=total.value,
                backend=_text(registry_name(registry(device))),
                # A correct type shows that the library's struct is laid out as above.
                id=_text(properties.device_id) if properties.type == kind(device) else "",
            )
        )
    return entries


def gpus(candidates: Sequence[Device]) -> list[Device]:
    """Return the devices that layers can be offloaded to, chosen as llama.cpp itself does.

    No card is listed twice. Integrated GPUs are used only if there are no other GPUs. If several back ends have GPUs,
    only those of one back end are used. If a device reports no memory of its own, the host's memory counts instead.

    llama.cpp does this in llama_prepare_model_devices of src/llama.cpp, and in load_tensors of src/llama-model.cpp.
    """
    cards: dict[str, Device] = {}
    for device in candidates:
        if device.kind == "gpu":
            cards.setdefault(device.id or device.name, device)
    integrated = [device for device in candidates if device.kind == "integrated gpu"]
    integrated = [device for device in integrated if device.backend == integrated[0].backend]
    host = next((device for device in candidates if device.kind == "cpu"), None)
    usable = [*cards.values()] or integrated
    return [
        replace(device, free=host.free, total=host.total) if host and not device.total else device
        for device in usable[: llama.llama_max_devices()]
    ]


def device_list(names: Sequence[str]) -> Any:
    """Return the devices of these names in llama.cpp's form: a null-terminated array of pointers."""
    by_name = symbol("ggml_backend_dev_by_name", ctypes.c_void_p, ctypes.c_char_p)
    return (ctypes.c_void_p * (len(names) + 1))(*[by_name(name.encode()) for name in names])


def system_info() -> str:
    """Return llama.cpp's own line on the processor features that llama.cpp's build uses."""
    start_library()
    return _text(llama.llama_print_system_info())


def address(name: str) -> int | None:
    """Return the address of a function in llama.cpp's libraries or their dependencies, or None."""
    libraries = [llama._lib, *([ctypes.CDLL(str(variant.path))] if (variant := cpu_variant()) else [])]
    function = next((function for library in libraries if (function := getattr(library, name, None))), None)
    return ctypes.cast(function, ctypes.c_void_p).value if function else None


@cache
def cpu_variant() -> CpuVariant | None:
    """Return the variant of a portable build that runs on this processor; None for an ordinary build."""
    start_library()
    return next((variant for variant in cpu_variants(library_path().parent) if variant.score), None)


def load_backend(path: Path) -> bool:
    """Load a back end and its device into ggml.

    Return False if ggml refuses it; `reason` then says why.
    """
    start_library()
    return bool(symbol("ggml_backend_load", ctypes.c_void_p, ctypes.c_char_p)(os.fsencode(path)))


def version() -> str:
    """Return the version of llama-cpp-python."""
    return str(binding_version)


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

    Its arguments are pointers to the blocks and to the float32 weights, and the count of weights as int64.

    Raises EcellmError if the library's struct is laid out differently.
    """
    traits = symbol("ggml_get_type_traits", ctypes.POINTER(_TypeTraits), ctypes.c_int)(kind.number).contents
    if (traits.blck_size, traits.type_size) != (kind.block, kind.block_bytes) or not traits.to_float:
        raise EcellmError(
            f"llama.cpp describes {kind.name} differently", step="install llama-cpp-python>=0.3.36,<0.4 again"
        )
    return int(traits.to_float)


def quantize_chunk_address() -> int:
    """Return the address of ggml_quantize_chunk."""
    return int(ctypes.cast(llama._lib.ggml_quantize_chunk, ctypes.c_void_p).value or 0)


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
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    quantize = symbol(
        "ggml_quantize_chunk", ctypes.c_size_t, ctypes.c_int, pointer, pointer, count, count, count, pointer
    )
    imatrix = None if importance is None else np.ascontiguousarray(importance, dtype=np.float32)
    if imatrix is not None and imatrix.shape != (columns,):
        raise EcellmError(f"The imatrix has the shape {imatrix.shape}, not ({columns},).")
    if rows:
        data = None if imatrix is None else imatrix.ctypes.data
        quantize(kind.number, source.ctypes.data, target.ctypes.data, 0, rows, columns, data)
    return target


def symbol(name: str, result: Any, *arguments: Any) -> Any:
    """Return a function of llama.cpp's libraries by name. Raises AttributeError if there is none."""
    # Without a restype ctypes truncates 64-bit pointers to 32 bits.
    function = getattr(llama._lib, name)
    function.restype = result
    function.argtypes = list(arguments)
    return function


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
