"""llama.cpp is loaded beside one C++ runtime, whatever has loaded one before."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
import numpy
everywhere = ctypes.CDLL(None)
name = "_ZNSt6locale7classicEv"  # std::locale::classic()
before = hasattr(everywhere, name)
from ecellm_lite.binding import llama
print(hasattr(ctypes.CDLL(None), name), before, bool(llama.llama_print_system_info()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only there libraries can hide their symbols from each other so")
def test_the_runtime_that_another_library_has_loaded_serves_all() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    after, before, loaded = found.stdout.split()
    if before == "True":
        pytest.skip("this Python has a C++ runtime of its own for all")
    assert (after, loaded) == ("True", "True")
