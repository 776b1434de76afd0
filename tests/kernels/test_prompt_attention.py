"""Compares the prompt kernels' attention with attention of the same arrays in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecellm_lite.errors import EcellmError
from tests.support.prompt_variants import Kernels, all_variants, native_variants

VARIANTS = all_variants()

ROUNDING = 2.0**-24


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of one call of the kernels' function for attention, `attend`."""

    q: NDArray[np.float32]
    k: NDArray[np.float16]
    v: NDArray[np.float16]
    mask: NDArray[np.float16]
    scale: float

    def by(
        self, kernels: Kernels, variant: str, *, threads: int = 1, order: NDArray[np.uint32] | None = None
    ) -> NDArray[np.float32]:
        operands = self.q, self.k, self.v, self.mask
        return kernels.attend(*operands, self.scale, variant=variant, threads=threads, order=order)

    def expected(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the result in float64, and the largest error that float32 arithmetic may cause."""
        q, k, v, mask = (array.astype(np.float64) for array in (self.q, self.k, self.v, self.mask))
        sharing = q.shape[1] // k.shape[1]
        k, v = np.repeat(k, sharing, axis=1), np.repeat(v, sharing, axis=1)
        scores = self.scale * np.einsum("thd,chd->thc", q, k) + mask[:, None, :]
        largest = scores.max(axis=2, keepdims=True)
        weights = np.exp(scores - np.where(np.isinf(largest), 0, largest))
        sums = weights.sum(axis=2, keepdims=True)
        weights /= np.where(sums > 0, sums, 1)
        # A score rounds with each of its products, and once when the mask is added; a weight is off by as much, and by
        # some roundings of its exponential. Cells that are not read count for nothing.
        sizes = self.scale * np.einsum("thd,chd->thc", abs(q), abs(k)) + np.where(np.isinf(mask), 0, abs(mask))[:, None]
        faults = (weights > 0) * ((q.shape[2] + 4) * sizes + np.where(np.isinf(scores), 0, abs(scores)))
        relative = (2 * faults.max(axis=2) + 3 * k.shape[0] + 32) * ROUNDING
        bound = relative[:, :, None] * np.einsum("thc,chd->thd", weights, abs(v)) + 1e-30
        return np.einsum("thc,chd->thd", weights, v), bound


def call(
    generator: np.random.Generator,
    tokens: int,
    cells: int,
    heads: int,
    kv_heads: int,
    width: int,
    mask: NDArray[np.bool_],
) -> Call:
    """Return random arguments for the attention. If `mask[token, cell]` is False, the token must not read the cell."""
    size = 10.0 ** generator.integers(-3, 2)
    return Call(
        (size * generator.normal(size=(tokens, heads, width))).astype(np.float32),
        generator.normal(size=(cells, kv_heads, width)).astype(np.float16),
        generator.normal(size=(cells, kv_heads, width)).astype(np.float16),
        np.ascontiguousarray(np.where(mask, 0, -np.inf).astype(np.float16)),
        width**-0.5,
    )


def rows(generator: np.random.Generator, tokens: int, prefix: int, longest: int) -> NDArray[np.bool_]:
    """Return a mask, of shape (tokens, cells), for rows of 1 to `longest` tokens that share a prefix of `prefix` cells.

    A token reads the prefix, its own cell and the earlier cells of its row. Some cells are unused.
    """
    lengths: list[int] = []
    while sum(lengths) < tokens:
        lengths.append(int(generator.integers(1, longest + 1)))
    row = np.repeat(np.arange(len(lengths)), lengths)[:tokens]
    own = (row[:, None] == row[None, :]) & (np.arange(tokens)[None, :] <= np.arange(tokens)[:, None])
    unused = np.zeros((tokens, int(generator.integers(0, 100))), dtype=bool)
    reads = np.concatenate([np.ones((tokens, prefix), dtype=bool), own, unused], axis=1)
    return np.ascontiguousarray(reads[:, generator.permutation(reads.shape[1])]) if generator.integers(2) else reads


@pytest.mark.parametrize("variant", VARIANTS)
@given(
    seed=st.integers(0, 2**32 - 1),
    tokens=st.integers(1, 70),
    prefix=st.integers(0, 120),
    longest=st.sampled_from([1, 2, 5, 30]),
    kv_heads=st.integers(1, 3),
    sharing=st.integers(1, 9),
    width=st.sampled_from([8, 64, 80, 96, 128, 256]),
    threads=st.integers(1, 3),
)
def test_attention_is_right_for_rows_that_share_a_prefix(
    kernels: Kernels,
    variant: str,
    seed: int,
    tokens: int,
    prefix: int,
    longest: int,
    kv_heads: int,
    sharing: int,
    width: int,
    threads: int,
) -> None:
    generator = np.random.default_rng(seed)
    mask = rows(generator, tokens, prefix, longest)
    one = call(generator, tokens, mask.shape[1], kv_heads * sharing, kv_heads, width, mask)
    expected, bound = one.expected()
    assert np.all(np.abs(one.by(kernels, variant, threads=threads) - expected) <= bound)


@pytest.mark.parametrize("variant", VARIANTS)
@given(
    seed=st.integers(0, 2**32 - 1),
    tokens=st.integers(1, 40),
    cells=st.integers(1, 150),
    share=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
)
def test_attention_is_right_for_any_mask(
    kernels: Kernels, variant: str, seed: int, tokens: int, cells: int, share: float
) -> None:
    """In these random masks, some tokens may read no cell, and some cells may be read by no token.

    A mask value of -inf forbids a token to read a cell. A finite value only raises or lowers the cell's score.
    """
    generator = np.random.default_rng(seed)
    one = call(generator, tokens, cells, 6, 2, 64, generator.random((tokens, cells)) < share)
    one.mask[one.mask == 0] = generator.choice([0, 0, -1.5, 3, 1e-5], np.count_nonzero(one.mask == 0))
    expected, bound = one.expected()
    result = one.by(kernels, variant)
    assert np.all(np.abs(result - expected) <= bound)
    assert not result[np.isinf(one.mask).all(axis=1)].any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_attention_is_right_for_scores_far_apart(kernels: Kernels, variant: str) -> None:
    """One cell may have e^100 times the weight of most other cells, and it may be one of the last cells."""
    generator = np.random.default_rng(1)
    one = call(generator, 20, 200, 4, 4, 64, np.ones((20, 200), dtype=bool))
    one.k[150:] *= np.float16(200)
    expected, bound = one.expected()
    assert np.all(np.abs(one.by(kernels, variant) - expected) <= bound)


@pytest.mark.parametrize("variant", VARIANTS)
def test_attention_is_right_for_any_strides(kernels: Kernels, variant: str) -> None:
    """Heads and cells may have gaps between them in memory."""
    generator = np.random.default_rng(2)
    reads = rows(generator, 33, 50, 9)
    one = call(generator, 33, reads.shape[1], 6, 2, 64, reads)
    wide = Call(
        np.repeat(one.q, 2, axis=1)[:, ::2],
        np.repeat(one.k, 3, axis=0)[::3],
        np.asfortranarray(one.v.swapaxes(0, 2)).swapaxes(0, 2),
        np.pad(one.mask, ((0, 0), (0, 5)))[:, : one.mask.shape[1]],
        one.scale,
    )
    assert np.array_equal(one.by(kernels, variant), wide.by(kernels, variant))


@pytest.mark.parametrize("variant", VARIANTS)
def test_threads_and_masked_cells_change_no_bit(kernels: Kernels, variant: str) -> None:
    generator = np.random.default_rng(3)
    reads = rows(generator, 50, 40, 20)
    reads[:, 60] = False
    one = call(generator, 50, reads.shape[1], 9, 3, 64, reads)
    result = one.by(kernels, variant)
    one.k[60] = one.v[60] = np.nan
    assert np.array_equal(result, one.by(kernels, variant, threads=3))


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    tokens=st.integers(1, 50),
    prefix=st.integers(0, 120),
    longest=st.sampled_from([1, 5, 30]),
    sharing=st.integers(1, 5),
    width=st.sampled_from([64, 80, 128]),
    threads=st.integers(1, 3),
)
# A weight of 2^-127 was 0 where its cell was in one block with the highest score, and decided a tie where it was not.
@example(seed=88080, tokens=33, prefix=93, longest=1, sharing=5, width=64, threads=1)
def test_a_token_has_the_same_bits_whatever_else_is_read(
    kernels: Kernels,
    variant: str,
    seed: int,
    tokens: int,
    prefix: int,
    longest: int,
    sharing: int,
    width: int,
    threads: int,
) -> None:
    """A token's result does not depend on other tokens or on the order of the cells. Every bit stays the same.

    Deterministic batches need this.
    """
    generator = np.random.default_rng(seed)
    reads = rows(generator, tokens, prefix, longest)
    one = call(generator, tokens, reads.shape[1], 2 * sharing, 2, width, reads)
    one.k[generator.random(len(one.k)) < 0.1] *= np.float16(30)  # the highest score changes often
    together = one.by(kernels, variant, threads=threads)
    alone = []
    for token in range(tokens):
        cells = np.flatnonzero(reads[token])
        mask = np.zeros((1, len(cells)), dtype=np.float16)
        alone.append(Call(one.q[token : token + 1], one.k[cells], one.v[cells], mask, one.scale).by(kernels, variant))
    assert np.array_equal(np.concatenate(alone), together)
    order = generator.permutation(reads.shape[1]).astype(np.uint32)
    moved = Call(one.q, np.empty_like(one.k), np.empty_like(one.v), one.mask, one.scale)
    moved.k[order], moved.v[order] = one.k, one.v
    assert np.array_equal(moved.by(kernels, variant, order=order), together)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_nan_and_infinity_stay_visible_in_their_row(kernels: Kernels, variant: str, value: float) -> None:
    generator = np.random.default_rng(4)
    one = call(generator, 20, 60, 2, 2, 64, np.ones((20, 60), dtype=bool))
    one.q[7, 1, 5] = value
    result = one.by(kernels, variant)
    assert np.isnan(result[7, 1]).all()
    assert np.isfinite(np.delete(result, 7, axis=0)).all()


@pytest.mark.skipif(not native_variants(), reason="no prompt kernels for this processor")
def test_mismatched_shapes_are_refused(kernels: Kernels) -> None:
    generator = np.random.default_rng(5)
    reads = np.ones((4, 30), dtype=bool)
    for heads, kv_heads, width in ((4, 3, 64), (4, 4, 60), (4, 4, 264)):
        with pytest.raises(EcellmError):
            call(generator, 4, 30, heads, kv_heads, width, reads).by(kernels, native_variants()[0])
    with pytest.raises(EcellmError):
        call(generator, 4, 30, 4, 4, 64, reads).by(kernels, "mmx")
