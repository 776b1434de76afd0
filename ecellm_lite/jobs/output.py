"""A job's output file: complete under its own name, or not there.

Until the job has ended, the file has the suffix `.part`; what was written before an interruption stays in that.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from ecellm_lite.errors import InputError


class HasDescriptor(Protocol):
    """What is open as a file of the system's."""

    def fileno(self) -> int:
        """Return its number."""


@contextmanager
def output_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a job's output: `path.part`, which is renamed to `path` when the block ends well.

    A device or a pipe is written directly. Raises InputError where it cannot be written.
    """
    check_output(path)
    if not is_replaceable(path):
        with _opened(path, path) as file:
            yield file
        return
    path = path.resolve()  # a link stays a link
    with _opened(part_of(path), path) as file:
        yield file
        with _writable(path):
            file.flush()
            os.fsync(file.fileno())  # the name must not be there before the answers are, whenever the power goes
    with _writable(path):
        part_of(path).replace(path)


def part_of(path: Path) -> Path:
    """Return where an output is written until it is complete."""
    return path.with_name(path.name + ".part")


def is_replaceable(path: Path) -> bool:
    """Return whether a file is, or would be, written there; a device or a pipe must not be replaced by one."""
    return path.is_file() or not path.exists()


def check_output(path: Path, setting: str = "output") -> None:
    """Raise InputError if no file can be written there: it is a folder, or in a folder that does not exist.

    `setting` is the name of the argument that holds the path, for the error.
    """
    with _writable(path, setting):  # a name may be too long, or a folder closed to us
        part_of(path).exists()
        if path.is_dir():
            raise InputError(f"{path} is a folder", step="give the name of a file in it", settings=(setting,))
        if not path.parent.is_dir():
            raise InputError(
                f"{path} cannot be written, because there is no folder {path.parent}",
                step="make the folder, or give another file",
                settings=(setting,),
            )


def is_read_from(path: Path | None, file: HasDescriptor) -> bool:
    """Return whether writing to a path (None: to standard output) would change the file that is being read.

    Standard input is such a file too, where it was opened from one.
    """
    try:
        source = os.fstat(file.fileno())
        if path is None:
            outputs = [os.fstat(sys.stdout.fileno())]
        else:
            outputs = [place.stat() for place in (path, part_of(path)) if place.exists()]
    except (OSError, ValueError):  # not a file of the system's, as a test's BytesIO
        return False
    return stat.S_ISREG(source.st_mode) and any(os.path.samestat(source, status) for status in outputs)


def standard_output() -> IO[bytes]:
    """Return standard output for a job's answers, or raise InputError where it is closed."""
    if not sys.stdout:
        raise InputError("Standard output is closed", step="give a file for the answers", settings=("output",))
    return sys.stdout.buffer


@contextmanager
def _opened(place: Path, path: Path) -> Iterator[IO[bytes]]:
    with _writable(path):
        file = place.open("wb")
    try:
        yield file
        with _writable(path):
            file.flush()
    finally:
        with suppress(OSError):  # an error of writing was raised already
            file.close()


@contextmanager
def _writable(path: Path, setting: str = "output") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror})", step="make room, or give another file", settings=(setting,)
        ) from None
