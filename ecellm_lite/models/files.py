"""Files that are there whole or not at all, and their hashes."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_BLOCK = 1 << 20


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Give a temporary path in the same folder; when the block ends well its file becomes `path`, else it is removed.

    The data is on the disk before the name is: a reader, or a machine that loses power, sees the old file or the new.
    Whoever the process's umask leaves the right to may read the file; one that is `private` its owner alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # The system itself takes the umask's rights away: it cannot be asked for without being changed for all threads.
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def in_words(size: int) -> str:
    """Return a number of bytes for a sentence: 4.4 GB, or 6.3 MB where it is below one GB."""
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.1f} MB"


def sha256_of(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Return a file's sha256 in hex; `progress` is told the bytes of each block."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if progress:
                progress(len(block))
    return digest.hexdigest()
