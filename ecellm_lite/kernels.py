"""The Python face of kernels/: native code where it was compiled, numpy with the same bytes where it was not."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.errors import EcellmError

VERSION = 1  # ECELLM_KERNELS_VERSION of ecellm_kernels.h

# CMake gives a module the suffix .so on macOS too.
_FILE = "libecellm_kernels.dll" if sys.platform == "win32" else "libecellm_kernels.so"


@cache
def library() -> ctypes.CDLL | None:
    """Return the native library, or None where the package was installed without a compiler.

    Raises EcellmError for a library of another version: half of an old install is still there.
    """
    path = Path(str(files("ecellm_lite").joinpath(_FILE)))
    if not path.is_file():
        return None
    native = ctypes.CDLL(str(path))
    version = native.ecellm_kernels_version()
    if version != VERSION:
        raise EcellmError(f"The kernels in {path} are of version {version}, not {VERSION}: install ecellm-lite again.")
    native.ecellm_widen_bf16.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    return native


def name() -> str:
    """Return which kernels are in use: `native` or `numpy`."""
    return "native" if library() else "numpy"


def widen_bf16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return bfloat16 values, given as their bits, as float32 of the same shape; exact, NaN payloads included."""
    source = np.ascontiguousarray(bits, dtype=np.uint16)
    native = library()
    if native is None:
        return (source.astype(np.uint32) << 16).view(np.float32)
    target = np.empty(source.shape, dtype=np.float32)
    # ctypes releases the interpreter's lock while the function runs.
    status = native.ecellm_widen_bf16(source.ctypes.data, target.ctypes.data, source.size)
    if status:
        raise EcellmError(f"The kernel ecellm_widen_bf16 refused its arguments ({status}): install ecellm-lite again.")
    return target
