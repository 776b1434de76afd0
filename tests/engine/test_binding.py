"""Tests that all libraries of the process share one C++ runtime.

Also tests that llama.cpp's threads wait only briefly before they sleep, unless the user has set another time.
"""

from __future__ import annotations

import os
import re
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
def test_an_already_loaded_c_plus_plus_runtime_is_shared() -> None:
    program = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    after, before, loaded = program.stdout.split()
    if before == "True":
        pytest.skip("this Python has a C++ runtime of its own for all")
    assert (after, loaded) == ("True", "True")


@pytest.mark.parametrize(
    ("settings", "looks"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "0")]
)
def test_threads_spin_only_briefly_by_default(settings: dict[str, str], looks: str) -> None:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    program = (
        f"import os, ecellm_lite.binding; print({{name: os.environ[name] for name in {names} if name in os.environ}})"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, **settings, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    if not (display := re.search(r"GOMP_SPINCOUNT = '(\d+)'", loaded.stderr)):
        pytest.skip("this llama.cpp does not use GCC's OpenMP")
    assert display[1] == looks
    assert loaded.stdout.strip() == str(settings)
