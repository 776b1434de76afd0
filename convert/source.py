"""What the converter asks of the weights that it reads: a checkpoint of safetensors, or another file of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray


class Placed(Protocol):
    """A tensor of a source: its type, by a name of ecellm_lite.tensor_types.CONVERTED, and its shape."""

    @property
    def dtype(self) -> str:
        """The type's name: F32, F16, BF16, or a quantized one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, with the contiguous dimension last."""


class Source(Protocol):
    """Weights by name, read where they lie, a range of rows at a time."""

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name."""

    def __iter__(self) -> Iterator[str]:
        """Go through the tensors' names."""

    def tensor(self, name: str) -> Placed:
        """Return what is known of a tensor; raises ModelError if there is none."""

    def rows(self, name: str, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """Return rows: float32, float16, bfloat16's bits as uint16, or (rows, bytes) of a quantized type."""

    def check_unchanged(self) -> None:
        """Raise ModelError if a file was written to since it was opened."""

    def inputs(self) -> Sequence[Input]:
        """Return the files that are read."""


@dataclass(frozen=True, slots=True)
class Input:
    """A file that a conversion reads: its size in bytes, and its time of change in nanoseconds."""

    path: Path
    size: int
    changed: int
