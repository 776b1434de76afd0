"""The sources of weights for the converter: a checkpoint in safetensors files, or a GGUF file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """A tensor in a source of weights: its type, its shape, and its position and size in the file in bytes.

    The contiguous dimension is the last one in `shape`. `type` is F32, F16, BF16, or the name that the file uses for
    another type.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def row_bytes(self) -> int:
        """The number of bytes in a row. The number of rows is the first number in `shape`."""
        return self.size // max(1, self.shape[0]) if self.shape else self.size


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that a conversion reads: its size in bytes, and its modification time in nanoseconds.

    For a file that is still on the Hugging Face hub, the modification time is 0, and the sha256 is what the hub states.
    """

    path: Path
    size: int
    changed: int
    sha256: str = ""

    @classmethod
    def of(cls, path: Path, status: os.stat_result) -> InputFile:
        """Return the file at `path`, with the size and the modification time in `status`."""
        return cls(path, status.st_size, status.st_mtime_ns)


class TensorSource(Protocol):
    """A source of weights. Tensors are found by name, and their rows are read in ranges."""

    def __contains__(self, name: object) -> bool:
        """Return whether there is a tensor of that name."""

    def __iter__(self) -> Iterator[str]:
        """Iterate over the tensors' names."""

    def tensor(self, name: str) -> SourceTensor:
        """Return a tensor's type and shape. Raises ModelError if there is no such tensor."""

    def rows(self, name: str, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """Return rows of a tensor.

        - F32 and F16: an array of float32 or float16.
        - BF16: an array of uint16 with the bits of each value.
        - Quantized types: an array of shape (rows, bytes).
        """

    def check_unchanged(self) -> None:
        """Raise ModelError if a file was changed since it was opened."""

    def inputs(self) -> Sequence[InputFile]:
        """Return the files that hold the weights."""

    def configuration(self) -> Sequence[InputFile]:
        """Return the files that describe the weights, such as config.json."""
