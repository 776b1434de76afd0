"""Compares the prompt kernels' matrix products with products of the same numbers in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecellm_lite import ggml_quantizer
from ecellm_lite.errors import EcellmError
from ecellm_lite.kernels.prompt import library
from ecellm_lite.tensor_types import CONVERTED, TensorType
from tests.support.prompt_variants import Kernels, all_variants, native_variants
from tests.support.refusals import refusal

WORDS = {"Q8_0"}  # whose activations are quantized to 16 bits
FLOATS = {"F16", "BF16"}  # whose activations are not quantized, and those of all others are to 8 bits
TYPES = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
BLOCK = 32
VARIANTS = all_variants()


def quantized(x: NDArray[np.float32], limit: float) -> NDArray[np.float64]:
    """Return activations (columns, depth) after the kernels' quantization.

    The values are quantized in blocks of 32. The largest value of a block becomes `limit`.
    """
    blocks = x.reshape(len(x), -1, BLOCK)
    largest = np.abs(blocks).max(axis=2, keepdims=True)
    counts = largest >= np.float32(2.0**-100)
    scale = np.where(counts, largest / np.float32(limit), np.float32(0))
    factor = np.where(counts, np.float32(limit) / np.where(counts, largest, np.float32(1)), np.float32(0))
    quants = np.rint(blocks * factor)
    activations: NDArray[np.float64] = (scale.astype(np.float64) * quants).reshape(x.shape)
    return activations


def bfloat16(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """Round to bfloat16, to nearest with ties to even. Subnormal numbers of float32 become zeros."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.abs(x) < 2.0**-126, 0, rounded.view(np.float32)).astype(np.float64)


def compare_bfloat16(weights: NDArray[np.float64], x: NDArray[np.float32], result: NDArray[np.float32]) -> None:
    """Check that `result` is the product of `x` and the weights, both rounded to bfloat16.

    The sums may have rounding errors of float32.

    A weight that is nearly in the middle between two numbers of bfloat16 may be rounded to either of them.
    """
    activations, off = bfloat16(x), 2.0**-22 * np.abs(weights).max(axis=1, keepdims=True)
    either = np.abs(bfloat16(weights + off) - bfloat16(weights - off))
    weights = bfloat16(weights)
    sizes = np.abs(activations) @ np.abs(weights).T
    bound = (x.shape[1] + 8) * 2.0**-24 * sizes + np.abs(activations) @ either.T + x.shape[1] * 2.0**-125
    assert np.all(np.abs(result - activations @ weights.T) <= bound)


def compare(
    blocks: NDArray[np.uint8], kind: TensorType, x: NDArray[np.float32], result: NDArray[np.float32], variant: str
) -> None:
    """Check that products are exact up to rounding in float32.

    For float types, each product of two numbers is rounded once. For quantized types, the result of each block is
    rounded a few times.
    """
    weights = ggml_quantizer.dequantize(blocks, kind, x.shape[1]).astype(np.float64)
    if variant.startswith("amx") and kind.name != "F16":
        compare_bfloat16(weights, x, result)
        return
    if kind.name in FLOATS:
        sizes = np.abs(x.astype(np.float64)) @ np.abs(weights).T
        assert np.all(np.abs(result - x.astype(np.float64) @ weights.T) <= (x.shape[1] + 8) * 2.0**-24 * sizes + 1e-37)
        return
    activations = quantized(x, 32767 if kind.name in WORDS else 127)
    # A minimum may cancel what a scale adds: both are as large as the row's largest weight at most.
    sizes = np.abs(activations).sum(axis=1)[:, None] * np.abs(weights).max(axis=1)[None, :]
    bound = (x.shape[1] / BLOCK + 8) * 2.0**-22 * sizes + 1e-37
    assert np.all(np.abs(result - activations @ weights.T) <= bound)


def product(
    generator: np.random.Generator, kind: TensorType, rows: int, columns: int, depth: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return random quantized weights and random activations.

    Their products range from tiny to huge values of float32.
    """
    weights = generator.normal(size=(rows, depth)) * 10.0 ** generator.integers(-4, 3, (rows, 1))
    x = generator.normal(size=(columns, depth)) * 10.0 ** generator.integers(-6, 12, (columns, 1))
    pick = generator.integers(0, 6, (columns, depth // BLOCK))
    for column, block in np.argwhere(pick < 4):
        part = x[column, block * BLOCK :][:BLOCK]
        if pick[column, block] == 0:
            part[:] = 0
        elif pick[column, block] == 1:
            part[:] = part[0]
        elif pick[column, block] == 2:
            part[generator.integers(BLOCK)] *= 1e5
        else:
            part *= 1e-40  # subnormal, or nearly
    return ggml_quantizer.quantize_chunk(weights.astype(np.float32), kind), x.astype(np.float32)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", TYPES)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 70),
    columns=st.integers(1, 40),
    blocks=st.integers(1, 6),
    threads=st.integers(1, 3),
)
def test_products_are_close_to_those_in_float64(
    kernels: Kernels, variant: str, name: str, seed: int, rows: int, columns: int, blocks: int, threads: int
) -> None:
    kind = CONVERTED[name]
    depth = blocks * (kind.block if kind.block > BLOCK else 9 * BLOCK)  # up to 54 blocks: several slices of the depth
    weights, x = product(np.random.default_rng(seed), kind, rows, columns, depth)
    compare(weights, kind, x, kernels.multiply(weights, kind, x, variant=variant, threads=threads), variant)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", TYPES)
def test_products_of_many_columns_and_strides_are_right(kernels: Kernels, variant: str, name: str) -> None:
    kind = CONVERTED[name]
    generator = np.random.default_rng(4)
    weights, x = product(generator, kind, 45, 600, 2560)
    # Rows of weights and columns of activations with gaps between them.
    wide = generator.integers(0, 256, (45, weights.shape[1] + 34), dtype=np.uint8)
    wide[:, : weights.shape[1]] = weights
    far = generator.normal(size=(600, 2563)).astype(np.float32)
    far[:, :2560] = x
    result = kernels.multiply(wide[:, : weights.shape[1]], kind, far[:, :2560], variant=variant, threads=2)
    compare(weights, kind, x, result, variant)
    few = kernels.multiply(wide[:, : weights.shape[1]], kind, far[:9, :2560], variant=variant, threads=2)
    assert np.array_equal(few, result[:9])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", TYPES)
def test_a_column_does_not_depend_on_the_others(kernels: Kernels, variant: str, name: str) -> None:
    """A column of a product has the same bits for any number of columns and threads. Deterministic mode needs this."""
    kind = CONVERTED[name]
    weights, x = product(np.random.default_rng(5), kind, 37, 70, 1536)
    together = kernels.multiply(weights, kind, x, variant=variant)
    assert np.array_equal(together, kernels.multiply(weights, kind, x, variant=variant, threads=3))
    for count in (2, 5, 6, 8, 13, 16, 17, 31, 32, 33, 48, 64, 65):
        assert np.array_equal(together[:count], kernels.multiply(weights, kind, x[:count], variant=variant))
    alone = [kernels.multiply(weights, kind, x[i : i + 1], variant=variant) for i in range(len(x))]
    assert np.array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", TYPES)
def test_the_largest_sums_do_not_overflow(kernels: Kernels, variant: str, name: str) -> None:
    """The weights of a row differ only in their signs, and so do the activations of a column.

    Therefore all of them are quantized to the largest possible magnitude. The signs in a row or a column are all plus,
    all minus, or alternating.
    """
    kind = CONVERTED[name]
    signs = np.array([np.ones(512), -np.ones(512), np.resize([1, -1], 512)], dtype=np.float32)
    weights = ggml_quantizer.quantize_chunk(np.concatenate([signs, 3 * signs, signs / 7]), kind)
    x = np.concatenate([signs] * 6)
    for count in (1, 2, 3, 18):
        compare(weights, kind, x[:count], kernels.multiply(weights, kind, x[:count], variant=variant), variant)
    alternating = np.ascontiguousarray(x[2:3])
    compare(weights, kind, alternating, kernels.multiply(weights, kind, alternating, variant=variant), variant)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_nan_and_infinity_stay_in_their_column(kernels: Kernels, variant: str, name: str, value: float) -> None:
    kind = CONVERTED[name]
    weights, x = product(np.random.default_rng(6), kind, 20, 8, 512)
    before = kernels.multiply(weights, kind, x, variant=variant)
    x[3, 100] = value
    after = kernels.multiply(weights, kind, x, variant=variant)
    assert not np.isfinite(after[3]).any()
    assert name in FLOATS or variant.startswith("amx") or np.isnan(after[3]).all()
    assert np.array_equal(np.delete(before, 3, axis=0), np.delete(after, 3, axis=0))


@pytest.mark.skipif(not native_variants(), reason="no prompt kernels for this processor")
def test_mismatched_shapes_are_refused() -> None:
    variant = native_variants()[0]
    x = np.zeros((2, 64), dtype=np.float32)
    with refusal(EcellmError, 34, 64, "Q8_0"):
        library.multiply(np.zeros((2, 34), dtype=np.uint8), CONVERTED["Q8_0"], x, variant=variant)
    with pytest.raises(EcellmError):
        library.multiply(np.zeros((2, 256), dtype=np.uint8), CONVERTED["F32"], x, variant=variant)
    with pytest.raises(EcellmError):
        library.multiply(np.zeros((2, 68), dtype=np.uint8), CONVERTED["Q8_0"], x, variant="mmx")
