"""Builds a portable engine: a wheel of llama-cpp-python that runs on every processor of this machine's architecture.

An ordinary build of llama-cpp-python runs only on processors like the one that compiled it. This wheel has a variant of
ggml's code for each kind of processor, from the first 64-bit ones to those with AVX-512. ecellm_lite.backends loads the
best variant for the processor. The wheel needs a glibc that is at least as new as this machine's.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ecellm_lite.errors import EcellmError, UsageError

PROJECT = "llama-cpp-python"

# The folder of the wheel that all libraries are in. CMake would otherwise put the variants into a folder `bin`.
LIBRARIES = "llama_cpp/lib"

_OPTIONS = {
    "GGML_NATIVE": "OFF",
    "GGML_BACKEND_DL": "ON",
    "GGML_CPU_ALL_VARIANTS": "ON",
    "CMAKE_INSTALL_BINDIR": LIBRARIES,
    "CMAKE_INSTALL_LIBDIR": LIBRARIES,
    "CMAKE_INSTALL_INCLUDEDIR": "llama_cpp/include",
    "CMAKE_INSTALL_RPATH": "$ORIGIN",
    # One file for each library: a wheel holds no links, and would hold three copies.
    "CMAKE_PLATFORM_NO_VERSIONED_SONAME": "ON",
    # Of llama.cpp only what this project uses.
    "LLAVA_BUILD": "OFF",
    "LLAMA_BUILD_TOOLS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_SERVER": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
}
# llama-cpp-python switches the common library on, so it is switched off after that. GCC's OpenMP library goes along: a
# bare system has none. It keeps its name, so the process loads it once for llama.cpp and for the prompt kernels.
# GCC knows ARM's SME since version 14. ggml has no code for it, so an older GCC compiles those variants without.
INCLUDE = """\
set(LLAMA_BUILD_COMMON OFF CACHE BOOL "" FORCE)
execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=libgomp.so.1
  OUTPUT_VARIABLE openmp OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(IS_ABSOLUTE "${openmp}")
  get_filename_component(openmp "${openmp}" REALPATH)
  install(FILES "${openmp}" DESTINATION llama_cpp/lib RENAME libgomp.so.1)
endif()
include(CheckCCompilerFlag)
check_c_compiler_flag(-march=armv9.2-a+sme compiler_has_sme)
function(compile_without_sme)
  foreach(target ggml-cpu-armv9.2_1 ggml-cpu-armv9.2_2)
    if(TARGET ${target} AND NOT compiler_has_sme)
      get_target_property(options ${target} COMPILE_OPTIONS)
      string(REPLACE "armv9.2-a" "armv8.6-a" options "${options}")
      string(REPLACE "+sme" "" options "${options}")
      set_target_properties(${target} PROPERTIES COMPILE_OPTIONS "${options}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL compile_without_sme)
"""
# ggml's code for AMX dies of an illegal instruction when GCC compiles it (llama.cpp's pull request 26954).
_WITHOUT_AMX = "-U__AMX_INT8__"

_COMPILED = re.compile(r"^\s*\[(\d+)/(\d+)\]")
_LINES = 20  # of the compiler's output, for the message of a failure

Progress = Callable[[int, int], None]  # how many files are compiled, and how many there are


def build_engine(folder: Path, version: str, *, source: Path | None = None, progress: Progress | None = None) -> Path:
    """Build a wheel of this version of llama-cpp-python in `folder`, and return its path.

    `source`: the source distribution of llama-cpp-python, or a folder with it. By default, pip downloads it.

    Building takes a quarter of an hour or more, and needs CMake and a C++ compiler. Raises EcellmError if the
    build fails.
    """
    if source and not source.exists():
        raise UsageError(f"There is no {source}", step="name llama-cpp-python's source distribution")
    with TemporaryDirectory() as place:
        include = Path(place, "llama_cpp.cmake")
        include.write_text(INCLUDE, "ascii")
        wanted = str(source) if source else f"{PROJECT}=={version}"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--verbose", "--no-deps"]
        command = [*pip, "--no-binary", PROJECT, "--no-cache-dir", "--wheel-dir", place, wanted]
        _run(command, build_environment(include), progress)
        wheels = list(Path(place).glob("*.whl"))
        if len(wheels) != 1 or not variants_in(wheels[0]):
            raise EcellmError(
                "The wheel has no code for several processors", step="use another version of llama-cpp-python"
            )
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / wheels[0].name
        target.write_bytes(wheels[0].read_bytes())
        return target


def build_environment(include: Path) -> dict[str, str]:
    """Return the environment variables for pip: the user's own, plus the options of the portable build."""
    options = {**_OPTIONS, "CMAKE_PROJECT_llama.cpp_INCLUDE": str(include)}
    arguments = [f"-D{name}={value}" for name, value in options.items()]
    # The user's own options come last: CMake takes the last value of a name.
    environment = {**os.environ, "CMAKE_ARGS": " ".join([*arguments, os.environ.get("CMAKE_ARGS", "")]).strip()}
    if sys.platform != "win32":
        for flags in ("CFLAGS", "CXXFLAGS"):
            environment[flags] = f"{os.environ.get(flags, '')} {_WITHOUT_AMX}".strip()
    return environment


def variants_in(wheel: Path) -> Sequence[str]:
    """Return the sorted names of the processor variants for which a wheel has ggml code."""
    pattern = re.compile(re.escape(LIBRARIES) + r"/(?:lib)?ggml-cpu-([^/]+)\.(?:so|dll)")
    with zipfile.ZipFile(wheel) as archive:
        return sorted(match[1] for name in archive.namelist() if (match := pattern.fullmatch(name)))


def _run(command: Sequence[str], environment: dict[str, str], progress: Progress | None) -> None:
    lines: deque[str] = deque(maxlen=_LINES)
    with subprocess.Popen(  # noqa: S603 - pip
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        assert child.stdout
        for line in child.stdout:
            if match := _COMPILED.match(line):
                if progress:
                    progress(int(match[1]), int(match[2]))
            else:
                lines.append(line.rstrip())
    if child.returncode:
        raise EcellmError(
            f"{PROJECT} was not built:\n" + "\n".join(lines), step="install CMake and a C++ compiler, and try again"
        )
