"""Tests how ggml's back ends (its code for a CPU or GPU) are loaded.

A portable build has several variants of the CPU back end, for older and newer processors. It must load the best variant
for this processor from its own folder.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ecellm_lite import backends, doctor, ggml
from ecellm_lite.backends import CpuVariant, cpu_variants
from ecellm_lite.errors import EcellmError

SCORES = {"sse42": 5, "haswell": 64, "skylakex": 0}


def simulate(monkeypatch: pytest.MonkeyPatch, folder: Path, *, built_in: bool, found: bool) -> list[bytes]:
    """Simulate llama.cpp's library. When back ends are loaded from a folder, the folder is added to the returned list.

    `built_in`: whether the library itself contains the code for the CPU.
    `found`: whether the folder has code for this processor.
    """
    folders: list[bytes] = []

    def by_name(name: bytes) -> bool:
        return name == b"CPU" and (built_in or (found and bool(folders)))

    library = SimpleNamespace(
        _name=str(folder / "libllama.so"),
        ggml_backend_reg_by_name=by_name,
        ggml_backend_load_all_from_path=lambda path: folders.append(path),
    )
    monkeypatch.setattr(backends, "llama", SimpleNamespace(_lib=library))
    return folders


def test_an_ordinary_build_loads_no_back_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folders = simulate(monkeypatch, tmp_path, built_in=True, found=False)
    backends.load_backends()
    assert folders == []


def test_a_portable_build_loads_back_ends_from_its_own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "Büro 1"
    folders = simulate(monkeypatch, folder, built_in=False, found=True)
    backends.load_backends()
    backends.load_backends()
    assert folders == [os.fsencode(folder)]


def test_a_build_without_code_for_this_processor_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    simulate(monkeypatch, tmp_path, built_in=False, found=False)
    with pytest.raises(EcellmError) as refusal:
        backends.load_backends()
    assert str(tmp_path) in refusal.value.message
    assert refusal.value.step


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with simulated CPU libraries: one for each of SCORES, a damaged one, and `libggml-cpu.so`."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler or sys.platform != "linux":
        pytest.skip("there is no C compiler for these libraries")
    for name, score in SCORES.items():
        source = tmp_path / f"{name}.c"
        source.write_text(f"int ggml_backend_score(void) {{ return {score}; }}", "ascii")
        library = tmp_path / f"libggml-cpu-{name}.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    (tmp_path / "libggml-cpu-broken.so").write_bytes(b"not a library")
    (tmp_path / "libggml-cpu.so").write_bytes(b"")
    return tmp_path


def test_variants_are_listed_best_first(folder: Path) -> None:
    variants = cpu_variants(folder)
    assert [(variant.name, variant.score) for variant in variants[:2]] == [("haswell", 64), ("sse42", 5)]
    assert {variant.name: variant.score for variant in variants[2:]} == {"skylakex": 0, "broken": 0}


def test_a_function_of_the_variant_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look up a function that is in the library for this processor, but not in llama.cpp's main library."""
    variant = cpu_variants(folder)[0]
    monkeypatch.setattr(ggml, "cpu_variant", lambda: variant)
    expected = ctypes.cast(ctypes.CDLL(str(variant.path)).ggml_backend_score, ctypes.c_void_p).value
    assert ggml.address("ggml_backend_score") == expected
    assert ggml.address("llama_backend_init")
    assert ggml.address("no_such_function") is None


def test_the_doctor_names_the_variant_and_why() -> None:
    variants = [CpuVariant(name, score, Path(name)) for name, score in (("haswell", 64), ("sse42", 5), ("zen4", 0))]
    [check] = doctor._processor(variants)
    assert check.state == "ok"
    assert "haswell" in check.finding.split(",")[0]
    assert check.finding.index("sse42") < check.finding.index("zen4")
    assert doctor._processor([]) == []
