"""Files that are there whole or not at all, and the hashes that say which they are."""

from __future__ import annotations

import hashlib
import json
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


class HashCache:
    """Remembers a file's sha256 by its path, size, time of change and inode, so that it is computed once.

    The cache is a convenience: where it cannot be read or written, hashes are computed again.
    """

    MOST = 256  # files

    def __init__(self, path: Path) -> None:
        self._path = path

    def sha256(self, path: Path) -> str:
        """Return the file's sha256, from the cache where the file is still the one that was hashed."""
        status = path.stat()
        key = str(path.resolve())
        state = [status.st_size, status.st_mtime_ns, status.st_ino]
        known = self._read()
        entry = known.get(key)
        if isinstance(entry, list) and entry[:-1] == state and isinstance(entry[-1], str):
            return entry[-1]
        digest = sha256_of(path)
        known.pop(key, None)
        known[key] = [*state, digest]
        self._write(dict(list(known.items())[-self.MOST :]))
        return digest

    def _read(self) -> dict[str, object]:
        try:
            known = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _write(self, known: dict[str, object]) -> None:
        try:
            with replacing(self._path) as temporary:
                temporary.write_text(json.dumps(known), encoding="utf-8")
        except OSError:
            pass
