"""What is done with a block of a checkpoint's rows on their way into a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.tensor_types import CONVERTED, TensorType

# ECELLM_MOST_RANK and ECELLM_MOST_ADAPTERS of ecellm_kernels.h.
MOST_RANK = 256
MOST_ADAPTERS = 64

# The numpy types of weights that are no blocks; BF16 comes as its bits, as numpy has no such type.
_VALUES: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter's factors of one matrix: what is added is (scale * b) @ a.

    `a`: (rank, columns) float32. `b`: (rows, rank) float32. `scale` is rounded to float32.
    """

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Conversion:
    """A block of rows and what they are to become.

    `source`: (rows, columns) of float32, float16 or, for BF16, of their bits as uint16; for a quantized type
    (rows, bytes of a row) of uint8. `adapters` are added one after the other, in float32. `magnitudes`, (rows,): each
    merged row is scaled to this norm (DoRA). `order`, (rows,): which row of the source, of `b` and of `magnitudes`
    each row of the target is. `importance`, (columns,): the imatrix, for types that take one.

    Raises UsageError for shapes and types that do not fit each other, ModelError for an imatrix that is not finite.
    """

    source: NDArray[Any]
    source_type: str
    target_type: str
    adapters: tuple[Adapter, ...] = ()
    magnitudes: NDArray[np.float32] | None = None
    order: NDArray[np.integer[Any]] | None = None
    importance: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Check everything, and bring arrays into the types and layouts that are computed with."""
        for kind in (self.source_type, self.target_type):
            if kind not in CONVERTED:
                raise UsageError(f"There is no tensor type {kind!r}: take one of {', '.join(CONVERTED)}.")
        if self.source.ndim != 2:
            raise UsageError(f"The rows have the shape {self.source.shape}: give a matrix.")
        wanted = _VALUES.get(self.source_type, np.uint8)
        if self.source.dtype != wanted:
            raise UsageError(f"Rows of {self.source_type} come as {wanted.__name__}, not as {self.source.dtype}.")
        if self.source_type not in _VALUES and self.source.shape[1] % self.kind.block_bytes:
            raise UsageError(
                f"A row has {self.source.shape[1]:,} bytes: "
                f"blocks of {self.source_type} have {self.kind.block_bytes} each."
            )
        rows, columns = self.rows, self.columns
        if columns == 0 or columns % self.target.block:
            raise UsageError(
                f"A row has {columns:,} weights: {self.target_type} takes multiples of {self.target.block}."
            )
        self._set("source", self.source if _rows_contiguous(self.source) else np.ascontiguousarray(self.source))
        if len(self.adapters) > MOST_ADAPTERS:
            raise UsageError(f"There are {len(self.adapters)} adapters: {MOST_ADAPTERS} is the most at once.")
        self._set("adapters", tuple(_checked(adapter, rows, columns) for adapter in self.adapters))
        self._set("magnitudes", _vector(self.magnitudes, np.float32, rows, "magnitudes"))
        self._set("importance", _vector(self.importance, np.float32, columns, "imatrix"))
        if self.importance is not None and not np.isfinite(self.importance).all():
            raise ModelError("The imatrix has a value that is infinite or not a number: collect it again.")
        if self.order is not None:
            order = np.asarray(self.order)
            if order.dtype.kind not in "iu" or (order.size and not 0 <= int(order.min()) <= int(order.max()) < rows):
                raise UsageError(f"The order names a row that is not there: it goes from 0 to {rows - 1:,}.")
            self._set("order", _vector(order, np.uint32, rows, "order"))

    @property
    def kind(self) -> TensorType:
        """The source's type."""
        return CONVERTED[self.source_type]

    @property
    def target(self) -> TensorType:
        """The target's type."""
        return CONVERTED[self.target_type]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self.source.shape[0])

    @property
    def columns(self) -> int:
        """How many weights a row has."""
        width = int(self.source.shape[1])
        return width if self.source_type in _VALUES else width // self.kind.block_bytes * self.kind.block

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


def not_finite(row: int, column: int) -> ModelError:
    """Return the error for a result that no file should hold."""
    return ModelError(
        f"The weight in row {row:,}, column {column:,} of the block is infinite or not a number: "
        "the checkpoint or an adapter is damaged, get it again."
    )


def too_large(row: int, column: int, kind: str) -> ModelError:
    """Return the error for finite weights of which a type makes an infinity, or what is not a number."""
    return ModelError(
        f"The weights in row {row:,}, from column {column:,} of the block, or their imatrix, are too large for {kind}: "
        "take --quant F32 or another."
    )


def _rows_contiguous(matrix: NDArray[Any]) -> bool:
    size, step = matrix.itemsize, matrix.strides[0]
    within = matrix.shape[1] <= 1 or matrix.strides[1] == size
    aligned = matrix.ctypes.data % size == 0 and step % size == 0
    return within and aligned and (len(matrix) <= 1 or step >= matrix.shape[1] * size)


def _checked(adapter: Adapter, rows: int, columns: int) -> Adapter:
    a = np.ascontiguousarray(adapter.a, dtype=np.float32)
    b = np.ascontiguousarray(adapter.b, dtype=np.float32)
    rank = len(a)
    if a.shape != (rank, columns) or b.shape != (rows, rank) or not 1 <= rank <= MOST_RANK:
        raise UsageError(
            f"An adapter's factors have the shapes {a.shape} and {b.shape}: "
            f"give (rank, {columns}) and ({rows}, rank), with a rank from 1 to {MOST_RANK}."
        )
    return Adapter(a, b, float(np.float32(adapter.scale)))


def _vector(values: Any, kind: type[np.generic], length: int, name: str) -> Any:
    if values is None:
        return None
    vector = np.ascontiguousarray(values, dtype=kind)
    if vector.shape != (length,):
        raise UsageError(f"The {name} has the shape {vector.shape}: give ({length},).")
    return vector
