"""Runs each variant of the prompt kernels: directly if this processor can run it, otherwise in an emulator.

NEON runs in qemu, which emulates ARM. qemu has no AVX-512, VNNI or AMX. The library SIMDe computes these instructions,
except those of AMX, which tests/native/emulated/amx_emulated.h computes.
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray

from ecellm_lite.errors import EcellmError
from ecellm_lite.kernels.prompt import library
from ecellm_lite.tensor_types import TensorType

KERNELS = Path(__file__).parent.parent.parent / "kernels" / "prompt"
NATIVE = Path(__file__).parent.parent / "native"
SOURCES = ("backend", "multiply", "attention", "variants")
EMULATED = " (emulated)"


@dataclass(frozen=True, slots=True)
class Emulation:
    """How to compile and run a variant in an emulator.

    `flags`: compiler flags for the variant's own file only.
    `needs`: the programs and headers that must be installed.
    """

    variant: str
    compiler: str
    flags: tuple[str, ...]
    needs: tuple[str, ...]
    options: tuple[str, ...] = ()
    runner: tuple[str, ...] = ()

    def missing(self) -> str:
        """Return a message that names a missing program or header, or an empty text if all are installed."""
        missing = [need for need in self.needs if not shutil.which(need) and not Path("/usr/include", need).exists()]
        return f"{missing[0]} is not installed" if missing else ""

    def build(self, folder: Path) -> Path:
        """Compile tests/native/prompt_driver.cpp with this variant, and return the program's path."""
        program, kernels = folder / self.variant, folder / f"{self.variant}.o"
        with FileLock(folder / f"{self.variant}.lock"):
            if program.exists():
                return program
            command = [
                self.compiler,
                "-std=c++17",
                "-O2",
                "-ffp-contract=off",
                "-Wno-psabi",
                "-fopenmp",
                f"-I{KERNELS}",
            ]
            own = [*self.flags, f"-DECELLM_VARIANT={self.variant}", "-c", str(KERNELS / "variant.cpp")]
            subprocess.run([*command, *own, "-o", str(kernels)], check=True)
            sources = [str(KERNELS / f"{name}.cpp") for name in SOURCES]
            options = [*self.options, f"-DECELLM_VARIANTS=VARIANT({self.variant})"]
            linked = [*options, str(NATIVE / "prompt_driver.cpp"), *sources, str(kernels)]
            subprocess.run([*command, *linked, "-o", f"{program}.new"], check=True)
            Path(f"{program}.new").rename(program)
        return program


SIMDE = ("-O1", f"-I{NATIVE / 'emulated'}", f"-I{KERNELS / 'x86'}")


def _simde(variant: str, *flags: str) -> Emulation:
    return Emulation(variant, "g++", (*SIMDE, *flags), ("g++", "simde/x86/avx512.h"))


EMULATIONS = {
    emulation.variant + EMULATED: emulation
    for emulation in (
        Emulation(
            "neon",
            "aarch64-linux-gnu-g++",
            ("-march=armv8.2-a+dotprod", f"-I{KERNELS / 'neon'}"),
            ("aarch64-linux-gnu-g++", "qemu-aarch64"),
            ("-static",),
            ("qemu-aarch64", "-cpu", "max"),
        ),
        _simde("avxvnni", '-DECELLM_VNNI="avxvnni"'),
        _simde("avx512", "-DECELLM_AVX512"),
        _simde("amx", "-DECELLM_AVX512", '-DECELLM_VNNI="avx512vnni"', "-DECELLM_AMX"),
        _simde("avx512vnni", "-DECELLM_AVX512", '-DECELLM_VNNI="avx512vnni"'),
    )
}


def native_variants() -> list[str]:
    """Return the names of the variants that this processor runs."""
    try:
        return library.variants(library.library(library.path()))
    except EcellmError:
        return []


def all_variants() -> list[Any]:
    """Return the names of all variants, as parameters of a test. Variants in an emulator are marked slow."""
    native = native_variants()
    emulated = [
        pytest.param(
            name,
            marks=[
                pytest.mark.slow,
                pytest.mark.native,
                pytest.mark.skipif(bool(emulation.missing()), reason=emulation.missing() or "-"),
            ],
        )
        for name, emulation in EMULATIONS.items()
        if emulation.variant not in native
    ]
    none = [pytest.param("", marks=pytest.mark.skip(reason="no prompt kernels for this processor"))]
    return [*(native or none), *emulated]


class Kernels:
    """Computes matrix products and attention with any variant, in this process or in an emulator.

    `folder`: the folder for the emulators' programs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs: dict[str, subprocess.Popen[bytes]] = {}

    def close(self) -> None:
        """End the emulators."""
        for program in self._programs.values():
            program.communicate()

    def multiply(
        self, blocks: NDArray[np.uint8], kind: TensorType, x: NDArray[np.float32], *, variant: str, threads: int = 1
    ) -> NDArray[np.float32]:
        """Return the product of quantized weights and `x`, in the shape (columns, rows).

        `blocks` (rows, bytes of a row): the weights.
        `x` (columns, depth): the vectors to multiply by.
        """
        if not variant.endswith(EMULATED):
            return library.multiply(blocks, kind, x, variant=variant, threads=threads)
        (columns, depth), rows = x.shape, len(blocks)
        numbers = (0, kind.number, depth, rows, columns, threads, blocks.strides[0], x.strides[0])
        return self._ask(variant, numbers, (_span(blocks), _span(x)), (columns, rows))

    def attend(
        self,
        q: NDArray[np.float32],
        k: NDArray[np.float16],
        v: NDArray[np.float16],
        mask: NDArray[np.float16],
        scale: float,
        *,
        variant: str,
        threads: int = 1,
        order: NDArray[np.uint32] | None = None,
    ) -> NDArray[np.float32]:
        """Return the attention of each token and head, in the shape of `q`. Emulated variants run in another program.

        The arguments have the shapes that `library.attend` expects.
        """
        if not variant.endswith(EMULATED):
            return library.attend(q, k, v, mask, scale, variant=variant, threads=threads, order=order)
        (tokens, heads, width), (cells, kv_heads, _) = q.shape, k.shape
        strides = [stride for array in (q, k, v) for stride in array.strides[:2]]
        numbers = (1, threads, width, tokens, cells, heads, kv_heads, *strides, mask.strides[0])
        buffers = (
            struct.pack("<f", scale),
            _span(q),
            _span(k),
            _span(v),
            _span(mask),
            b"" if order is None else _span(order),
        )
        return self._ask(variant, numbers, buffers, q.shape)

    def _ask(
        self, variant: str, numbers: tuple[int, ...], buffers: tuple[bytes, ...], shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        if variant not in self._programs:
            emulation = EMULATIONS[variant]
            command = [*emulation.runner, str(emulation.build(self._folder)), emulation.variant]
            self._programs[variant] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        program = self._programs[variant]
        assert program.stdin
        assert program.stdout
        program.stdin.write(struct.pack(f"<{len(numbers)}q", *numbers))
        for buffer in buffers:
            program.stdin.write(struct.pack("<q", len(buffer)) + buffer)
        program.stdin.flush()
        y = np.empty(shape, dtype=np.float32)
        (status,) = struct.unpack("<q", program.stdout.read(8))
        y.reshape(-1)[:] = np.frombuffer(program.stdout.read(y.nbytes), dtype=np.float32)
        if status:
            raise EcellmError(f"The prompt kernels refused a call ({status}).")
        return y


def _span(array: NDArray[Any]) -> bytes:
    """Return the bytes in memory from an array's first element to its last."""
    last = sum((length - 1) * stride for length, stride in zip(array.shape, array.strides, strict=True))
    return ctypes.string_at(array.ctypes.data, last + array.itemsize)
