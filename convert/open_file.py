"""An open file that a conversion reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ecellm_lite.convert.reading import changed_meanwhile, open_for_reading
from ecellm_lite.convert.source import InputFile

if TYPE_CHECKING:
    from typing_extensions import Self


class OpenFile:
    """A file that is open for reading. It is a context manager. Raises ModelError if the file cannot be opened.

    `input`: the file's path, and the size and modification time that it had when it was opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = open_for_reading(path)
        self.input = InputFile.of(path, os.fstat(self._descriptor))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, if it is open."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def check_unchanged(self) -> None:
        """Raise ModelError if the file was changed since it was opened."""
        if InputFile.of(self.path, os.fstat(self._descriptor)) != self.input:
            raise changed_meanwhile(self.path)
