"""Reads blocks of rows from the checkpoint and converts them to the bytes of the GGUF file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite import kernels
from ecellm_lite.convert.plan import Plan
from ecellm_lite.convert.planned_tensor import PlannedTensor
from ecellm_lite.convert.source import TensorSource
from ecellm_lite.errors import ModelError
from ecellm_lite.kernels import Block
from ecellm_lite.kernels.block import not_finite
from ecellm_lite.kernels.finite import first_not_finite
from ecellm_lite.kernels.floats import FLOATS, widened


class NotFiniteError(ModelError):
    """A block has a weight that is infinite, NaN, or too large for its type."""


def read_blocks(plan: Plan, source: TensorSource, done: int) -> Iterator[tuple[PlannedTensor, int, Block]]:
    """Yield the blocks of all rows in the order of the GGUF file, except the rows that an earlier run has written.

    Each item is a tuple: the tensor, the number of the block's first row in the tensor, and the block.

    `done`: how many bytes at the beginning of the file the earlier run has written.
    """
    for tensor in plan.tensors:
        step = max(1, plan.block_weights // tensor.columns)
        # Skip whole rows; `done` can be any byte, because an interrupted run may have used another block size.
        bytes_written = done - plan.data_offset - tensor.offset
        for first in range(min(max(bytes_written, 0) // tensor.row_bytes, tensor.rows), tensor.rows, step):
            yield tensor, first, read_block(tensor, source, first, min(step, tensor.rows - first))


def read_block(tensor: PlannedTensor, source: TensorSource, first: int, count: int) -> Block:
    """Read `count` rows of a tensor. The block also has the adapter factors and scales that belong to these rows.

    `first` is the number of the first row in the GGUF file's order.
    """
    recipe = tensor.recipe
    places: slice | NDArray[np.integer[Any]] = slice(first, first + count)  # the rows' places in the source
    order = None
    if recipe.order is None:
        rows = _rows(tensor, source, first, count)
    elif len(recipe.shape) == 1:
        rows = _rows(tensor, source, 0, 1)[:, recipe.order]
    else:
        row_numbers = recipe.order[first : first + count].astype(np.int64)
        places = np.sort(row_numbers)
        order = np.searchsorted(places, row_numbers)
        # Each run of neighboring rows is read in one call. Rows move only within their head, so there are few runs.
        cuts = np.flatnonzero(np.diff(places) != 1) + 1
        runs = [_rows(tensor, source, int(run[0]), len(run)) for run in np.split(places, cuts)]
        rows = runs[0] if len(runs) == 1 else np.concatenate(runs)
    return Block(
        rows,
        tensor.source_type,
        tensor.type.name,
        tuple(replace(each, b=each.b[places]) for each in recipe.factors),
        magnitudes=None if recipe.magnitudes is None else recipe.magnitudes[places],
        order=order,
        importance=tensor.importance,
    )


def converted(tensor: PlannedTensor, first: int, block: Block, threads: int) -> NDArray[np.uint8]:
    """Return a block in the GGUF file's format, of shape (rows, bytes in a row).

    Raises NotFiniteError if a weight is not finite.
    """
    try:
        # Like llama-quantize, copy what already has the right type.
        if block.source_type == block.target_type and block.source_type not in FLOATS and not block.adapters:
            return _copied(block)
        return kernels.convert(block, threads=threads)
    except ModelError as error:
        raise NotFiniteError(
            f"{tensor.name}, rows from {first:,}: {error.message}",
            step=error.step,
            settings=error.settings,
            field=tensor.name,
        ) from None


def _copied(block: Block) -> NDArray[np.uint8]:
    rows = block.source if block.order is None else block.source[block.order]
    rows = np.ascontiguousarray(rows)
    if place := first_not_finite(rows, block.target):
        raise not_finite(*place)
    return rows


def _rows(tensor: PlannedTensor, source: TensorSource, first: int, count: int) -> NDArray[Any]:
    """Return rows of a tensor before their conversion. Rows of a quantized type are bytes. A vector is one row."""
    recipe = tensor.recipe
    if recipe.saved is not None:
        rows: NDArray[Any] = recipe.saved.reshape(tensor.rows, -1)[first : first + count]
    elif len(recipe.shape) == 1:
        rows = source.rows(recipe.source)
        if recipe.added:
            rows = widened(rows, source.tensor(recipe.source).type)
    else:
        rows = source.rows(recipe.source, first, count)
    if recipe.added:
        rows = rows + np.float32(recipe.added)
    return rows.reshape(count, -1)
