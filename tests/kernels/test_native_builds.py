"""Tests that the kernels can be built for other processors and with sanitizers, and then give the right results.

A test is skipped if its compiler is missing.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from ecellm_lite.kernels import Block, native, plain
from ecellm_lite.tensor_types import CONVERTED, K_QUANTS, SHORT_QUANTS
from tests.kernels.test_kernels import REFERENCE
from tests.support.weights import KINDS, weights_of

KERNELS = Path(__file__).parent.parent.parent / "kernels"
NATIVE = Path(__file__).parent.parent / "native"
OPTIONS = ["-std=c++17", "-ffp-contract=off", "-fno-math-errno", "-Wno-psabi", f"-I{KERNELS}", "-pthread"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]

# Calls of the fuzzer in a test run; `make sanitize` makes more.
CALLS = int(os.environ.get("ECELLM_FUZZ_CALLS", "3000"))
pytestmark = pytest.mark.native


def build(compiler: str, folder: Path, program: str, variants: dict[str, list[str]], *options: str) -> Path:
    """Compile a test program with these variants of the kernels (name: compiler options), and return its path."""
    objects = {name: str(folder / f"{name}.o") for name in variants}
    compile_one = [compiler, *OPTIONS, *options, "-c", str(KERNELS / "variant.cpp")]
    running = [
        subprocess.Popen([*compile_one, *own, f"-DECELLM_VARIANT={name}", "-o", objects[name]])
        for name, own in variants.items()
    ]
    assert [process.wait() for process in running] == [0] * len(running)
    target = folder / "program"
    sources = [str(KERNELS / f"{name}.cpp") for name in ("kernels", "convert_block", "variants")]
    subprocess.run(
        [compiler, *OPTIONS, *options, str(NATIVE / program), *sources, *objects.values(), "-o", str(target)],
        check=True,
    )
    return target


def compare(command: list[str], variant: str) -> None:
    """Check that a test program quantizes weights to the same bytes as the kernels in Python, for every quantized type.

    `command`: the command that starts the test program.
    """
    generator = np.random.default_rng(5)
    weights = np.stack([weights_of(kind, 512, generator) for kind in KINDS * 2])
    importance = np.abs(weights_of("normal", 512, generator))
    conversions = [(kind, None) for kind in SHORT_QUANTS]
    for kind, weighting in [*conversions, *product(K_QUANTS, (None, importance))]:
        prefix = b"" if weighting is None else weighting.tobytes()
        shape = [str(len(weights)), "512", "0" if weighting is None else "1"]
        packed = subprocess.run(
            [*command, variant, str(CONVERTED[kind].number), *shape],
            input=prefix + weights.tobytes(),
            capture_output=True,
            check=True,
        ).stdout
        assert packed == plain.convert(Block(weights, "F32", kind, importance=weighting)).tobytes(), kind


needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="g++ is not installed")


@needs_compiler
@REFERENCE
def test_the_widest_variant_gives_the_bytes_of_ggml(tmp_path: Path) -> None:
    """The compiler splits vectors that are too long for the processor, so any processor can run this variant."""
    program = build("g++", tmp_path, "driver.cpp", {"baseline": ["-DECELLM_LANES=16"]}, "-O2")
    compare([str(program)], "baseline")


@pytest.mark.skipif(
    not shutil.which("aarch64-linux-gnu-g++") or not shutil.which("qemu-aarch64"),
    reason="a compiler for ARM and qemu-user are not installed (g++-aarch64-linux-gnu, qemu-user)",
)
@REFERENCE
def test_neon_gives_the_bytes_of_ggml(tmp_path: Path) -> None:
    variants = {"neon": ["-DECELLM_LANES=4"]}
    options = ("-O2", "-static", "-DECELLM_HAS_NEON")
    program = build("aarch64-linux-gnu-g++", tmp_path, "driver.cpp", variants, *options)
    compare(["qemu-aarch64", str(program)], "neon")


@needs_compiler
@pytest.mark.skipif("avx512" not in native.variants(), reason="only AVX-512 does without a division")
def test_fast_quotients_equal_a_division(tmp_path: Path) -> None:
    program = tmp_path / "quotients"
    source = str(NATIVE / "quotients.cpp")
    subprocess.run(["g++", *OPTIONS, "-O2", *AVX512, "-DECELLM_LANES=16", source, "-o", str(program)], check=True)
    ran = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    assert int(ran.stdout) == 2 * 19 * 2**23 * 3


@needs_compiler
def test_sanitizers_find_no_fault_in_the_quantizers(tmp_path: Path) -> None:
    """A fuzzer calls the C functions with random arguments: sizes, strides, null pointers, overlaps, infinities."""
    options = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    variants = {"baseline": ["-DECELLM_LANES=4"]}
    if platform.machine() in ("x86_64", "AMD64"):
        variants |= {"avx2": ["-DECELLM_LANES=8", "-mavx2"], "avx512": ["-DECELLM_LANES=16", *AVX512]}
        options.append("-DECELLM_HAS_AVX")
    elif platform.machine() in ("aarch64", "arm64"):
        variants = {"neon": ["-DECELLM_LANES=4"]}
        options.append("-DECELLM_HAS_NEON")
    program = build("g++", tmp_path, "fuzz.cpp", variants, *options)
    seed = os.environ.get("ECELLM_FUZZ_SEED", "1")
    ran = subprocess.run([str(program), seed, str(CALLS)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    counts = [int(line.split()[0]) for line in ran.stdout.splitlines()]
    assert counts[0] > sum(counts) / 8, "many calls should get through"
    assert all(counts[status] for status in (1, 2, 3, 4, 5, 6, 7, 8, 10)), ran.stdout


@needs_compiler
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the prompt kernels are for x86-64")
def test_sanitizers_find_no_fault_in_the_prompt_kernels(tmp_path: Path) -> None:
    """A fuzzer calls the kernels with random shapes, strides and bits, on up to three threads."""
    prompt = KERNELS / "prompt"
    options = ["-std=c++17", "-O1", "-g", "-fopenmp", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    options += ["-fno-sanitize=float-cast-overflow", "-DECELLM_VARIANTS=VARIANT(avx2)"]
    options += [f"-I{prompt}", f"-I{prompt / 'x86'}"]
    kernels = str(tmp_path / "variant.o")
    own = ["-mavx2", "-mfma", "-mf16c", "-DECELLM_VARIANT=avx2"]
    compile_variant = ["g++", *options, *own, "-c", str(prompt / "variant.cpp"), "-o", kernels]
    subprocess.run(compile_variant, check=True)
    program = str(tmp_path / "program")
    sources = [str(prompt / f"{name}.cpp") for name in ("backend", "multiply", "attention", "variants")]
    subprocess.run(["g++", *options, str(NATIVE / "prompt_fuzz.cpp"), *sources, kernels, "-o", program], check=True)
    seed = os.environ.get("ECELLM_FUZZ_SEED", "1")
    ran = subprocess.run([program, seed, str(CALLS)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    ok, no_variant, _, _, bad_shape, no_memory = (int(line) for line in ran.stdout.splitlines())
    assert ok > 200
    assert no_variant
    assert bad_shape
    assert not no_memory


def instructions(objdump: str, library_file: Path) -> list[tuple[str, str]]:
    """Return the machine instructions of a library as pairs (name, operands)."""
    command = [objdump, "-d", "--no-show-raw-insn", str(library_file)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    fields = [line.split("\t", 1)[1].removeprefix("{vex} ").split(None, 1) for line in lines if "\t" in line]
    return [(field[0], field[1] if len(field) > 1 else "") for field in fields]


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("cmake") or not shutil.which("aarch64-linux-gnu-g++"),
    reason="CMake and a compiler for ARM are not installed (cmake, g++-aarch64-linux-gnu)",
)
def test_a_build_for_arm_has_the_prompt_kernels(tmp_path: Path) -> None:
    """The kernels are built with the commands that docs/offline.md gives for ARM wheels."""
    options = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"]
    options.append("-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++")
    subprocess.run(["cmake", "-S", str(KERNELS), "-B", str(tmp_path), *options], check=True)
    subprocess.run(["cmake", "--build", str(tmp_path), "--target", "ecellm_prompt"], check=True)
    names = {name for name, _ in instructions("aarch64-linux-gnu-objdump", tmp_path / "libecellm_prompt.so")}
    assert {"sdot", "fmla"} <= names
