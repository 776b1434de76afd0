"""Tests how the portable engine, which runs on many kinds of processors, is built.

The tests look at the compiler's options, pip's arguments, and the checks of the finished wheel. The compilation itself
takes too long for a test.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from platform import machine
from typing import Any

import pytest

from ecellm_lite.bundle.engine import INCLUDE, build_engine, build_environment, variants_in
from ecellm_lite.errors import EcellmError, UsageError

WHEEL = "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"


def test_the_users_compiler_options_come_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_OPENMP=OFF")
    monkeypatch.setenv("CFLAGS", "-O2")
    environment = build_environment(tmp_path / "include.cmake")
    options = environment["CMAKE_ARGS"].split()
    assert {"-DGGML_NATIVE=OFF", "-DGGML_BACKEND_DL=ON", "-DGGML_CPU_ALL_VARIANTS=ON"} <= set(options)
    assert options[-1] == "-DGGML_OPENMP=OFF"
    if sys.platform != "win32":
        assert environment["CFLAGS"].split() == ["-O2", "-U__AMX_INT8__"]


PROJECT = """\
cmake_minimum_required(VERSION 3.21)
project(llama.cpp C)
add_library(ggml-cpu-armv9.2_1 MODULE a.c)
target_compile_options(ggml-cpu-armv9.2_1 PRIVATE -O3 -march=armv9.2-a+dotprod+sme)
function(report)
  get_target_property(options ggml-cpu-armv9.2_1 COMPILE_OPTIONS)
  file(WRITE options.txt "${options}")
endfunction()
cmake_language(DEFER CALL report)
"""


def test_variants_are_compiled_without_sme_if_the_compiler_lacks_it(tmp_path: Path) -> None:
    if machine() != "x86_64" or not shutil.which("cmake") or not shutil.which("cc"):
        pytest.skip("needs CMake and a compiler that knows no SME")
    (tmp_path / "include.cmake").write_text(INCLUDE, "ascii")
    (tmp_path / "CMakeLists.txt").write_text(PROJECT, "ascii")
    (tmp_path / "a.c").touch()
    include = f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={tmp_path / 'include.cmake'}"
    subprocess.run(["cmake", "-B", tmp_path / "build", "-S", tmp_path, include], check=True, capture_output=True)
    options = (tmp_path / "options.txt").read_text("ascii")
    assert options.split(";") == ["-O3", "-march=armv8.6-a+dotprod"]


def write_wheel(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return path


def test_the_variants_in_a_wheel_are_listed(tmp_path: Path) -> None:
    wheel = write_wheel(
        tmp_path / WHEEL,
        "llama_cpp/lib/libggml-cpu-sse42.so",
        "llama_cpp/lib/libggml-cpu-haswell.so",
        "llama_cpp/lib/libggml-cpu.so",
        "llama_cpp/lib/libggml-base.so",
        "bin/libggml-cpu-zen4.so",
    )
    assert variants_in(wheel) == ["haswell", "sse42"]


class Pip:
    """Simulates `pip wheel`. The wheel contains the files `names`."""

    def __init__(self, *names: str, code: int = 0) -> None:
        self.returncode = code
        self.stdout: Any = ["Building\n", "  [1/2] gcc -c a.c\n", "  [2/2] gcc -c b.c\n", "the last line\n"]
        self._names = names
        self.command: list[str] = []

    def __call__(self, command: list[str], **_: Any) -> Pip:
        self.command = command
        if not self.returncode:
            write_wheel(Path(command[command.index("--wheel-dir") + 1]) / WHEEL, *self._names)
        return self

    def __enter__(self) -> Pip:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_a_build_reports_its_progress(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pip = Pip("llama_cpp/lib/libggml-cpu-haswell.so")
    monkeypatch.setattr("subprocess.Popen", pip)
    steps: list[tuple[int, int]] = []
    wheel = build_engine(tmp_path / "wheels", "0.3.36", progress=lambda done, of: steps.append((done, of)))
    assert wheel == tmp_path / "wheels" / WHEEL
    assert variants_in(wheel) == ["haswell"]
    assert steps == [(1, 2), (2, 2)]
    assert pip.command[-1] == "llama-cpp-python==0.3.36"


@pytest.mark.parametrize("pip", [Pip("llama_cpp/lib/libggml-cpu.so"), Pip(code=1)])
def test_a_build_that_fails_leaves_no_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pip: Pip) -> None:
    monkeypatch.setattr("subprocess.Popen", pip)
    with pytest.raises(EcellmError):
        build_engine(tmp_path / "wheels", "0.3.36")
    assert not (tmp_path / "wheels").exists()


def test_a_missing_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        build_engine(tmp_path, "0.3.36", source=tmp_path / "none.tar.gz")


def test_the_compilers_last_lines_are_in_the_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("subprocess.Popen", Pip(code=1))
    with pytest.raises(EcellmError) as failure:
        build_engine(tmp_path, "0.3.36")
    assert "the last line" in failure.value.message
