"""Weights for tests of quantizers: normal ones and many unusual ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Generator = np.random.Generator


def _normal(count: int, generator: Generator) -> NDArray[np.floating]:
    return generator.normal(size=count)


def _bits(count: int, generator: Generator) -> NDArray[np.floating]:
    bits = generator.integers(0, 1 << 32, count, dtype=np.uint32)
    return np.where((bits & 0x7F800000) == 0x7F800000, bits & 0x807FFFFF, bits).astype(np.uint32).view(np.float32)


def _outlier(count: int, generator: Generator) -> NDArray[np.floating]:
    row = generator.normal(size=count) * 10.0 ** generator.integers(-6, 0)
    row[generator.integers(count)] = generator.choice([-1, 1]) * 10.0 ** generator.integers(0, 8)
    return row


def _mixed(count: int, generator: Generator) -> NDArray[np.floating]:
    """Return weights in sub-blocks of 16 values. The sub-blocks differ in their magnitudes.

    Some sub-blocks are all zero, some are constant, and some have only one sign.
    """
    rows = generator.normal(size=(count // 16, 16)) * 10.0 ** generator.integers(-30, 20, (count // 16, 1))
    for row in rows:
        row[:] = (row, np.zeros(16), np.full(16, row[0]), np.abs(row), -np.abs(row))[generator.integers(5)]
    return rows.reshape(-1)


def _near(count: int, generator: Generator) -> NDArray[np.floating]:
    """Return values that differ only in their last bits. For them, the quantizer's search divides by almost zero."""
    base = generator.normal() * 10.0 ** generator.integers(-3, 6)
    return base * (1 + generator.integers(-3, 4, count) * 2.0**-23)


_MADE: dict[str, Callable[[int, Generator], NDArray[np.floating]]] = {
    "normal": _normal,
    "weights": lambda count, generator: _normal(count, generator) * 0.02,
    "heavy-tailed": lambda count, generator: generator.standard_t(1.5, count),
    "constant": lambda count, generator: np.full(count, generator.normal()),
    "zero": lambda count, _: np.zeros(count),
    "minus zero": lambda count, generator: np.where(generator.random(count) < 0.5, -0.0, 0.0),
    "denormal": lambda count, generator: _normal(count, generator) * 1e-41,
    "tiny": lambda count, generator: _normal(count, generator) * 10.0 ** generator.integers(-38, -10),
    "huge": lambda count, generator: generator.uniform(-3.4e38, 3.4e38, count),
    "large": lambda count, generator: _normal(count, generator) * 10.0 ** generator.integers(5, 37),
    "positive": lambda count, generator: np.abs(_normal(count, generator)),
    "negative": lambda count, generator: -np.abs(_normal(count, generator)) - 1,
    "integers": lambda count, generator: generator.integers(-8, 9, count).astype(float),
    "outlier": _outlier,
    "mixed": _mixed,
    "near": _near,
    "bits": _bits,
}
KINDS = list(_MADE)


def weights_of(kind: str, count: int, generator: Generator) -> NDArray[np.float32]:
    """Return `count` finite float32 weights of one of KINDS. `count` is a multiple of 16."""
    with np.errstate(over="ignore"):
        row = _MADE[kind](count, generator).astype(np.float32)
    return np.where(np.isfinite(row), row, np.float32(1))
