"""Appends bytes to an unfinished file, hashes them, and flushes the file at intervals."""

from __future__ import annotations

import hashlib
import time

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.writer import UnfinishedFile

_FLUSH_BYTES = 64 << 20  # written between two lines of the journal
_FLUSH_SECONDS = 5.0
_HASHED_BYTES = 4 << 20  # at a time


class FileStream:
    """Appends bytes to an unfinished file, starting where an earlier run stopped.

    `size` is the finished file's size.
    """

    def __init__(self, file: UnfinishedFile, size: int) -> None:
        self._file = file
        self._size = size
        self._digest = hashlib.sha256()
        self._end = 0
        self._flushed = time.monotonic()
        while self._end < file.done:
            data = file.read(min(_HASHED_BYTES, file.done - self._end), self._end)
            self._digest.update(data)
            self._end += len(data)

    @property
    def sha256(self) -> str:
        """The sha256 of the file's bytes so far, in hex."""
        return self._digest.hexdigest()

    def append(self, data: bytes | memoryview) -> None:
        """Append bytes to the file, and add them to the hash."""
        self._file.write(data, self._end)
        self._digest.update(data)
        self._end += len(data)

    def put(self, block: tuple[int, NDArray[np.uint8]]) -> None:
        """Write the block at its offset in the file. The gap before it is filled with zeros."""
        offset, rows = block
        data = memoryview(rows.reshape(-1).data)
        # A resumed run begins with the row that was only partly written.
        data, offset = (data[self._end - offset :], self._end) if offset < self._end else (data, offset)
        self.append(bytes(offset - self._end))
        self.append(data)
        seconds = time.monotonic() - self._flushed
        if self._end - self._file.done >= _FLUSH_BYTES or seconds >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Flush the file's bytes so far to the disk, and record their number in the journal."""
        if self._end > self._file.done:
            self._file.flush(self._end)
        self._flushed = time.monotonic()

    def end(self) -> None:
        """Append the zeros that pad the last tensor, and flush."""
        self.append(bytes(self._size - self._end))
        self.flush()
