"""A job's output file. It gets its final name only when it is complete.

Until then its name ends in `.part`. If the job is interrupted, the `.part` file remains.
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
from ecellm_lite.models.files import is_replaceable, replacing


class HasDescriptor(Protocol):
    """An object with a file descriptor."""

    def fileno(self) -> int:
        """Return the file descriptor."""


@contextmanager
def output_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a job's output as `path.part`, and rename it to `path` when the `with` block ends without an error.

    A device or a pipe is written directly. Raises InputError if the output cannot be written.
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
            os.fsync(file.fileno())  # otherwise a power cut could leave a file without the answers
    with _writable(path):
        part_of(path).replace(path)


def part_of(path: Path) -> Path:
    """Return the path of the unfinished output, which ends in `.part`."""
    return path.with_name(path.name + ".part")


def check_output(path: Path, setting: str = "output") -> None:
    """Raise InputError if a path is a folder, or if its folder does not exist.

    `setting`: the name of the argument that the path comes from. The error repeats this name.
    """
    with _writable(path, setting):  # the name may be too long, or the folder inaccessible
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
    """Return whether an output to `path` would overwrite `file`, which the job reads.

    If `path` is None, the output is standard output. `file` may be standard input, redirected from a file.
    """
    try:
        source = os.fstat(file.fileno())
        if path is None:
            outputs = [os.fstat(sys.stdout.fileno())]
        else:
            outputs = [place.stat() for place in (path, part_of(path.resolve())) if place.exists()]
    except (OSError, ValueError):  # no file descriptor, as for a BytesIO
        return False
    return stat.S_ISREG(source.st_mode) and any(os.path.samestat(source, status) for status in outputs)


def standard_output() -> IO[bytes]:
    """Return standard output as a binary file for a job's answers. Raises InputError if standard output is closed."""
    if not sys.stdout:
        raise InputError("Standard output is closed", step="give a file for the answers", settings=("output",))
    return sys.stdout.buffer


def write_whole(path: Path, text: str, setting: str) -> None:
    """Write a text to a file, creating its folder if needed. If this fails, an older file at `path` stays as it was.

    Devices and pipes are written directly. Raises InputError if the file cannot be written.

    `setting`: the name of the argument that the path comes from. The error repeats this name.
    """
    with _writable(path, setting):
        if not is_replaceable(path):
            path.write_text(text, "utf-8")
            return
        path = path.resolve()  # a link stays a link
        with replacing(path) as temporary:
            temporary.write_text(text, "utf-8")
            if path.exists():
                temporary.chmod(path.stat().st_mode & 0o777)


class FlushedFile:
    """A file that is flushed after every write."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        """Write bytes and flush them. Raises InputError if they cannot be written."""
        try:
            count = self._file.write(data)
            self._file.flush()
        except BrokenPipeError:  # the reader of the output is gone, which is not an error here
            raise
        except OSError as error:
            message = f"The answers cannot be written ({error.strerror})"
            step = "free some space, or write elsewhere; the same command then resumes the job"
            raise InputError(message, step=step, settings=("output",)) from None
        return count

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


@contextmanager
def _opened(place: Path, path: Path) -> Iterator[IO[bytes]]:
    with _writable(path):
        file = place.open("wb")
    try:
        yield file
        with _writable(path):
            file.flush()
    finally:
        with suppress(OSError):  # a write error was raised already
            file.close()


@contextmanager
def _writable(path: Path, setting: str = "output") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror})",
            step="free some space, or give another file",
            settings=(setting,),
        ) from None
