"""Rows of a tensor, and all that is needed to convert them to another type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.kernels.floats import FLOATS
from ecellm_lite.tensor_types import CONVERTED, TensorType

# ECELLM_MOST_RANK and ECELLM_MOST_ADAPTERS of ecellm_kernels.h.
MOST_RANK = 256
MOST_ADAPTERS = 64


@dataclass(frozen=True, slots=True)
class Factors:
    """A LoRA adapter's factors for one matrix. Merging adds (scale * b) @ a to the matrix.

    `a`: (rank, columns) float32.
    `b`: (rows, rank) float32.
    `scale`: a number, which is rounded to float32.
    """

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of a tensor, and everything needed to convert them.

    `source`: the rows. Floats have the shape (rows, columns). The numpy type is float32 for F32, float16 for F16, and
      uint16 for the bits of BF16. A quantized type has the shape (rows, bytes of a row) and the numpy type uint8.
    `adapters`: the LoRA adapters. Their changes are added one after the other, in float32.
    `magnitudes`, shape (rows,): only with DoRA. After the adapters are added, each row is scaled to this norm.
    `order`, shape (rows,): if `order[3]` is 7, row 3 of the result is made from row 7 of the source. The rows of
      `magnitudes` and of an adapter's `b` are in the source's order.
    `importance`, shape (columns,): how much each column matters, from the imatrix. Only some target types use it.

    Raises UsageError if shapes and types do not match, and ModelError if the imatrix is not finite.
    """

    source: NDArray[Any]
    source_type: str
    target_type: str
    adapters: tuple[Factors, ...] = ()
    magnitudes: NDArray[np.float32] | None = None
    order: NDArray[np.integer[Any]] | None = None
    importance: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Check all fields, and convert the arrays to the types and layouts that the kernels read."""
        for kind in (self.source_type, self.target_type):
            if kind not in CONVERTED:
                raise UsageError(f"There is no tensor type {kind!r}", step=f"choose one of {', '.join(CONVERTED)}")
        self._check_source()
        rows, columns = self.rows, self.columns
        if columns == 0 or columns % self.target.block:
            raise UsageError(
                f"A row of {columns:,} weights cannot become {self.target_type}",
                step=f"give a multiple of {self.target.block}",
            )
        self._set("source", self.source if _rows_contiguous(self.source) else np.ascontiguousarray(self.source))
        if len(self.adapters) > MOST_ADAPTERS:
            raise UsageError(
                f"There are {len(self.adapters)} adapters, more than {MOST_ADAPTERS}", step="merge them in two runs"
            )
        self._set("adapters", tuple(_checked(adapter, rows, columns) for adapter in self.adapters))
        self._set("magnitudes", _vector(self.magnitudes, np.float32, rows, "magnitudes"))
        self._set("importance", _vector(self.importance, np.float32, columns, "imatrix"))
        if self.importance is not None and not np.isfinite(self.importance).all():
            raise ModelError("The imatrix has a value that is infinite or NaN", step="collect it again")
        if self.order is not None:
            order = np.asarray(self.order)
            if order.dtype.kind not in "iu" or (order.size and not 0 <= int(order.min()) <= int(order.max()) < rows):
                raise UsageError("The order names a row that does not exist", step=f"give rows from 0 to {rows - 1:,}")
            self._set("order", _vector(order, np.uint32, rows, "order"))

    @property
    def source_kind(self) -> TensorType:
        """The type of the source's weights."""
        return CONVERTED[self.source_type]

    @property
    def target(self) -> TensorType:
        """The type that the rows are converted to."""
        return CONVERTED[self.target_type]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.source.shape[0])

    @property
    def columns(self) -> int:
        """The number of weights in a row."""
        width, kind = int(self.source.shape[1]), self.source_kind
        return width if self.source_type in FLOATS else width // kind.block_bytes * kind.block

    def _check_source(self) -> None:
        if self.source.ndim != 2:
            raise UsageError(f"The rows have the shape {self.source.shape}", step="give a matrix")
        dtype = FLOATS.get(self.source_type, np.uint8)
        if self.source.dtype != dtype:
            raise UsageError(
                f"Rows of {self.source_type} cannot have the numpy type {self.source.dtype}",
                step=f"give {dtype.__name__}",
            )
        if self.source_type not in FLOATS and self.source.shape[1] % self.source_kind.block_bytes:
            raise UsageError(
                f"A row of {self.source.shape[1]:,} bytes is not a whole number of {self.source_type} blocks",
                step=f"give whole blocks of {self.source_kind.block_bytes} bytes",
            )

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


def not_finite(row: int, column: int) -> ModelError:
    """Return the error for a weight that is infinite or NaN. The error names the weight's row and column."""
    return ModelError(
        f"The weight in row {row:,}, column {column:,} of the block is infinite or NaN",
        step="the checkpoint or an adapter is damaged, so download it again",
    )


def too_large(row: int, column: int, kind: str) -> ModelError:
    """Return the error for finite weights that are too large for the target type. It names the row and column."""
    return ModelError(
        f"The weights in row {row:,}, from column {column:,} of the block, or their imatrix, are too large for {kind}",
        step="choose F32 or another type",
        settings=("file_type",),
    )


def _rows_contiguous(matrix: NDArray[Any]) -> bool:
    size, step = matrix.itemsize, matrix.strides[0]
    within = matrix.shape[1] <= 1 or matrix.strides[1] == size
    aligned = matrix.ctypes.data % size == 0 and step % size == 0
    return within and aligned and (len(matrix) <= 1 or step >= matrix.shape[1] * size)


def _checked(factors: Factors, rows: int, columns: int) -> Factors:
    a = np.ascontiguousarray(factors.a, dtype=np.float32)
    b = np.ascontiguousarray(factors.b, dtype=np.float32)
    rank = len(a)
    if a.shape != (rank, columns) or b.shape != (rows, rank) or not 1 <= rank <= MOST_RANK:
        raise UsageError(
            f"An adapter's factors have the shapes {a.shape} and {b.shape}",
            step=f"give (rank, {columns}) and ({rows}, rank), with a rank from 1 to {MOST_RANK}",
        )
    return Factors(a, b, float(np.float32(factors.scale)))


def _vector(values: Any, kind: type[np.generic], length: int, name: str) -> Any:
    if values is None:
        return None
    vector = np.ascontiguousarray(values, dtype=kind)
    if vector.shape != (length,):
        raise UsageError(f"The {name} has the shape {vector.shape}", step=f"give ({length},)")
    return vector
