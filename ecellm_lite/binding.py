"""llama-cpp-python's binding to llama.cpp, loaded so that all libraries of the process have one C++ runtime.

A build of llama.cpp can hold a second one, linked into its GPU library. If another library, such as numpy's, has loaded
the system's before for itself alone, some symbols are bound to the one and some to the other, and the first regular
expression of a vocabulary kills the process: seen with a CUDA build on an H100. The system's, once it is global, is
what all are bound to.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

if sys.platform == "linux":
    with suppress(OSError):  # a system that has another C++ runtime, or none
        ctypes.CDLL("libstdc++.so.6", mode=ctypes.RTLD_GLOBAL)

import llama_cpp.llama_cpp as llama
from llama_cpp import __version__ as version

__all__ = ["llama", "version"]
