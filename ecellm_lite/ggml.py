"""Starts llama.cpp's shared libraries, keeps their last error messages, and finds the addresses of their functions.

All symbols come from the library that the package llama_cpp has loaded. The package installs the same library under
several names. If we opened it under another name, a second ggml with its own list of devices would start.
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from ecellm_lite.backends import CpuVariant, cpu_variants, library_path, load_backends
from ecellm_lite.binding import llama
from ecellm_lite.binding import version as binding_version

_ERROR = 4  # GGML_LOG_LEVEL_ERROR, which the binding does not define

_errors: deque[str] = deque(maxlen=3)
_interrupted = False


def _note_error(level: int, text: bytes, _data: Any) -> None:
    try:
        if level == _ERROR:
            _errors.append(c_text(text).strip())
    except KeyboardInterrupt:
        _keep_interrupt()


_note = llama.llama_log_callback(_note_error)


def _keep_interrupt() -> None:
    """Remember a KeyboardInterrupt, for `check_interrupt` to raise. ctypes drops exceptions raised in a callback."""
    global _interrupted
    _interrupted = True


def is_logging(frame: FrameType | None) -> bool:
    """Return whether an interrupt arrived while our log callback ran. If so, remember the interrupt.

    `frame` is the Python frame that was interrupted. A signal handler must not raise KeyboardInterrupt inside the
    callback, because ctypes would drop it. A try block in the callback would not be enough: the interrupt can arrive
    before the callback's first line.
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
    return c_text(symbol("ggml_op_name", ctypes.c_char_p, ctypes.c_int)(number))


def reason() -> str:
    """Return llama.cpp's last errors, for use in a message, and clear them."""
    message = "; ".join(_errors) or "it gave no reason"
    _errors.clear()
    return message


def system_info() -> str:
    """Return llama.cpp's text about the processor features that it was built for, such as AVX2."""
    start_library()
    return c_text(llama.llama_print_system_info())


def address(name: str) -> int | None:
    """Return the address of a function in llama.cpp's libraries or their dependencies, or None."""
    libraries = [llama._lib, *([ctypes.CDLL(str(variant.path))] if (variant := cpu_variant()) else [])]
    function = next((function for library in libraries if (function := getattr(library, name, None))), None)
    return ctypes.cast(function, ctypes.c_void_p).value if function else None


@cache
def cpu_variant() -> CpuVariant | None:
    """Return the library that ggml has chosen for this processor, or None.

    Only a portable build of llama.cpp has several such libraries. For an ordinary build, the result is None.
    """
    start_library()
    return next((variant for variant in cpu_variants(library_path().parent) if variant.score), None)


def load_backend(path: Path) -> bool:
    """Load a back end and its device into ggml. Return whether ggml accepts it. If not, `reason()` says why."""
    start_library()
    return bool(symbol("ggml_backend_load", ctypes.c_void_p, ctypes.c_char_p)(os.fsencode(path)))


def version() -> str:
    """Return the version of llama-cpp-python."""
    return str(binding_version)


def symbol(name: str, result: Any, *arguments: Any) -> Any:
    """Return a function of llama.cpp's libraries by name. Raises AttributeError if there is none.

    `result`, `arguments`: the ctypes types of the function's result and of its arguments.
    """
    # Without a restype ctypes truncates 64-bit pointers to 32 bits.
    function = getattr(llama._lib, name)
    function.restype = result
    function.argtypes = list(arguments)
    return function


def c_text(value: bytes | None) -> str:
    """Return a C string of llama.cpp's libraries as text. NULL becomes an empty text."""
    return (value or b"").decode("utf-8", "replace")
