"""The sha256 of files, computed once and remembered until the file changes.

A remembered hash is used only if all of these are unchanged: the file's size, its time of modification (mtime), its
time of change (ctime), its inode, and a sample of its bytes (64 blocks of 4 KiB, spread evenly). Every ordinary write
to the file changes at least one of these five facts. A program can reset the mtime but not the ctime.

Some changes go unnoticed until the file is hashed again in full (`again=True`):

- Bytes outside the sample decay on the disk, or a program writes directly to the disk.
- The file is written again so soon after hashing that its times stay the same: within a few milliseconds or, on FAT,
  within two seconds.
- On Windows, which has no ctime, a program writes the file and resets the time of modification.

A file that was copied or restored from a backup is always hashed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from ecellm_lite.documents import read_document
from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import replacing

FORMAT = 1
MOST = 256  # files remembered
LARGEST = 1 << 20  # bytes, of the file with the remembered hashes

_BLOCK = 1 << 20
_SAMPLES, _SAMPLE = 64, 1 << 12
_GRAIN = 20_000_000  # ns; file times on Linux advance every 4 to 10 ms


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """A file's sha256 in hex, and the file's state when it was hashed.

    The state is the file's size in bytes, its times in ns, its inode, and the sha256 of a sample of its bytes.
    """

    sha256: str
    size: int
    modified: int
    changed: int
    inode: int
    sample: str

    def holds(self, path: Path) -> bool:
        """Whether the file at `path` has the size, inode and times of this identity. The file's bytes are not read."""
        with suppress(OSError):
            return _state(path.stat()) == (self.size, self.modified, self.changed, self.inode)
        return False


@dataclass(frozen=True, slots=True)
class _Remembered:
    """What FileIdentities stores. `files` maps absolute paths to identities, with the oldest identity first."""

    files: dict[str, FileIdentity]
    format: int


class FileIdentities:
    """The identities of files by their paths, stored in a JSON file.

    If the JSON file is missing or damaged, the files are hashed again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def remembered(self, path: Path) -> str | None:
        """Return the sha256 that was last stored for a path, or None. The file may have changed since."""
        identity = self._read().get(_key(path))
        return identity.sha256 if identity else None

    def identify(self, path: Path, *, again: bool = False) -> FileIdentity:
        """Return a file's identity. The file is hashed in full if no valid hash of it is stored, or if `again` is true.

        Raises OSError if the file cannot be read, and ModelError if it changes while it is read.
        """
        identity = self._read().get(_key(path))
        with path.open("rb") as file:
            state = _state(os.fstat(file.fileno()))
            sample = _sample(file, state[0])
            if identity and not again and identity == FileIdentity(identity.sha256, *state, sample):
                return identity
            identity = FileIdentity(_sha256(file), *state, sample)
            _wait_for_next_tick(state)
            if _state(os.fstat(file.fileno())) != state or not identity.holds(path):
                raise ModelError(f"{path} changes while it is read", step="use it once it is written")
        self._remember(path, identity)
        return identity

    def note(self, path: Path, sha256: str) -> FileIdentity:
        """Store and return the identity of a file that was just written. `sha256` is the hash of its bytes."""
        _wait_for_next_tick(_state(path.stat()))
        with path.open("rb") as file:
            state = _state(os.fstat(file.fileno()))
            identity = FileIdentity(sha256, *state, _sample(file, state[0]))
        self._remember(path, identity)
        return identity

    def _read(self) -> dict[str, FileIdentity]:
        with suppress(OSError, ValueError):
            return read_document(_Remembered, self._path, largest=LARGEST, formats=(FORMAT,)).files
        return {}

    def _remember(self, path: Path, identity: FileIdentity) -> None:
        files = self._read()
        files.pop(_key(path), None)
        files[_key(path)] = identity
        document = _Remembered(dict(list(files.items())[-MOST:]), FORMAT)
        with suppress(OSError), replacing(self._path) as temporary:
            temporary.write_text(json.dumps(asdict(document)), encoding="utf-8")


def _key(path: Path) -> str:
    return str(path.resolve())


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _sample(file: BinaryIO, size: int) -> str:
    digest = hashlib.sha256()
    for number in range(_SAMPLES):
        file.seek(max(0, size - _SAMPLE) * number // (_SAMPLES - 1))
        digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _wait_for_next_tick(state: tuple[int, int, int, int]) -> None:
    """Wait until the clock of file times has advanced, so that any later write gives the file a new time."""
    _, modified, changed, _ = state
    age = time.time_ns() - max(modified, changed)
    if 0 <= age < _GRAIN:
        time.sleep((_GRAIN - age) / 1e9)
