"""Atomic writes of files, and hashes of files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from ecellm_lite.errors import ModelError

_BLOCK = 1 << 20
_TOKEN = 4  # random bytes in the name of a temporary file


def is_replaceable(path: Path) -> bool:
    """Return whether the path is a regular file or does not exist. Devices and pipes must not be replaced."""
    try:
        return path.is_file() or not path.exists()
    except OSError:  # a name that is too long, for example: the error of the write says so
        return True


def same_file(one: Path, other: Path) -> bool:
    """Return whether two paths name the same regular file. The file need not exist yet."""
    if not (is_replaceable(one) and is_replaceable(other)):
        return False
    with suppress(OSError):  # of a path that cannot be reached
        return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))
    return False


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to. It replaces `path` at the end of the `with` block.

    After an error, `path` stays as it was, and the temporary file is removed. The data is on the disk before the file
    is renamed. So even after a power failure, a reader sees either the old file or the new one. If `private`, only the
    owner can read the file. Raises OSError if `path` is a folder, a device or a pipe.
    """
    if not is_replaceable(path):
        raise OSError(errno.EEXIST, "it is not a regular file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(_TOKEN)}")
    # The system applies the umask itself; it cannot be read without changing it for all threads.
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def private_opener(name: str, flags: int) -> int:
    """Open a file, as the `opener` of the built-in function `open`. Only its owner can read a newly created file."""
    return os.open(name, flags, 0o600)


def temporaries(path: Path) -> list[Path]:
    """Return the temporary files that `replacing` made for this path.

    Some of them may belong to a running process. The others are left over from killed processes.
    """
    return list(path.parent.glob(f".{escape(path.name)}.{'[0-9a-f]' * 2 * _TOKEN}"))


def copy_file(source: Path, target: Path) -> str:
    """Copy a file atomically and return the sha256 of the copied bytes, in hex."""
    digest = hashlib.sha256()
    with replacing(target) as temporary, source.open("rb") as read, temporary.open("wb") as copy:
        while block := read.read(_BLOCK):
            digest.update(block)
            copy.write(block)
    return digest.hexdigest()


def place_file(source: Path, target: Path, *, move: bool) -> str:
    """Copy or hard-link a file to a new place, and return its sha256. The original is not removed.

    With `move`, `target` becomes a hard link to the file, so that the caller can remove the original afterwards.
    Without `move`, the file is copied. A symbolic link's target or a file on another disk is copied even with `move`.
    If `source` and `target` are already the same file, nothing is copied.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in (target, *temporaries(target)):  # of a process that was killed
        if leftover.resolve() != source.resolve():
            leftover.unlink(missing_ok=True)
    if target.exists() and not target.is_symlink():
        return sha256_of(target)
    if move and not source.is_symlink():
        sha256 = sha256_of(source)
        with suppress(OSError):
            target.hardlink_to(source)
            return sha256
    return copy_file(source, target)


def move_file(source: Path, target: Path) -> None:
    """Move a file atomically. If the target is on another disk, copy it there and remove the original."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        for leftover in temporaries(target):  # of a process that was killed
            leftover.unlink(missing_ok=True)
        copy_file(source, target)
        source.unlink()


def size_text(size: int) -> str:
    """Return a number of bytes with its unit: `4.4 GB`, or `6.3 MB` if it is less than 1 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.1f} MB"


def sha256_of(path: Path) -> str:
    """Return a file's sha256 in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document as JSON, atomically. Raises ModelError if it cannot be written."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        message = f"{path} cannot be written ({error.strerror})"
        raise ModelError(message, step="free some space or check its permissions") from None
