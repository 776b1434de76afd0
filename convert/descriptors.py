"""Reads, writes and locks open files by their file descriptors.

Windows lacks pread, pwrite and flock, so this module has substitutes for them. The substitutes are tested on Linux, and
have never run on Windows.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

try:
    import fcntl as _fcntl
except ImportError:  # Windows
    _fcntl = None  # type: ignore[assignment]

# Windows neither renames nor removes a file that is open.
KEEPS_OPEN_FILES = os.name == "nt"

# Without O_BINARY, Windows would change line ends.
READ_WRITE = os.O_RDWR | sum(getattr(os, name, 0) for name in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW"))

_LOCKED_BYTE = 1 << 40  # Windows keeps others from reading a locked byte, so it lies far behind the file's end
_offset = threading.Lock()  # where the threads of a process share the descriptor's offset


def read_at(descriptor: int, count: int, offset: int) -> bytes:
    """Read up to `count` bytes from an offset of the file. At the end of the file, the result is empty."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, offset)
    with _offset:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, count)


def read_into(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Read from an offset of the file into a buffer.

    Return the number of bytes read, which is 0 at the end of the file.
    """
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    data = read_at(descriptor, len(buffer), offset)
    buffer[: len(data)] = data
    return len(data)


def write_at(descriptor: int, data: memoryview, offset: int) -> int:
    """Write at an offset of the file, and return the number of bytes written."""
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, offset)
    with _offset:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, data)


def lock(descriptor: int) -> None:
    """Lock an open file until it is closed. Raises BlockingIOError if another process has locked it."""
    if _fcntl:
        _fcntl.flock(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        return
    windows: Any = __import__("msvcrt")
    with _offset:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            windows.locking(descriptor, windows.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(error.errno, error.strerror) from None


def sync_folder(folder: Path) -> None:
    """Write a folder's list of files to the disk, so that a rename survives a power failure.

    On Windows, this does nothing.
    """
    if KEEPS_OPEN_FILES:
        return
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
