"""Stores in files what llama.cpp has in memory after reading a task's instruction, so that a new process can load it.

The folder is private. Only instructions are stored and never a row, so nothing that a customer wrote is kept. A damaged
state may crash llama.cpp, or may be accepted as valid. So a state is loaded only if its length and hash are right, and
if no other user could have written the file. Otherwise the state is computed again, and a file that failed a check is
removed.

Each model has its own folder, which is named after the sha256 of the model's file and is removed with the model. So if
a model's file was damaged and then repaired, states from the damaged file are never used.

File format, little-endian: 8 bytes of magic, the key (32 bytes), the state's sha256 (32), its length (8), the state.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ecellm_lite.models.files import replacing

MAGIC = b"ECLPFX01"
_HEAD = struct.Struct("<8s32s32sQ")

# A link could lead anywhere, and opening a pipe would block until there is a writer.
_FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"))

MOST_BYTES = 1 << 30  # the instructions of all ten tasks take 20 MB for the demo, 0.7 GB for eCeLLM-L


class PrefixFiles:
    """The stored states of one model. A state is what llama.cpp has in memory after it has read an instruction.

    `root`: the folder for all models. The files in it take at most `most_bytes` together.
    `model`: the sha256 of the model's file when it was loaded.
    `adapters`: the sha256 of each adapter, by the adapter's name. If an adapter computed a state, the state's key
      depends on the adapter's sha256.
    `circumstances`: what a state depends on apart from the model and the adapter, such as llama.cpp's version and the
      number of threads. Every key depends on it.
    `unchanged`: a function that says whether the model's file is unchanged. llama.cpp maps the file and would compute
      with changed bytes, so a state is written only if the file is unchanged.

    Disk errors are never raised. A state that cannot be read is computed again.
    """

    def __init__(
        self,
        root: Path,
        model: str,
        circumstances: str,
        *,
        adapters: Mapping[str, str] | None = None,
        unchanged: Callable[[], bool] = lambda: True,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._root = root
        self._folder = root / model
        self._facts = f"{model} {circumstances}"
        self._adapters = dict(adapters or {})
        self._unchanged = unchanged
        self._most_bytes = most_bytes

    def read(self, tokens: Sequence[int], adapter: str | None = None) -> bytes | None:
        """Return the state that was written for exactly these tokens and this adapter, or None.

        A damaged file is deleted.
        """
        key = self._key(tokens, adapter)
        path = self._path(key)
        try:
            if not self._is_private():
                return None
            if path.is_symlink():
                self.remove(tokens, adapter)
                return None
            with os.fdopen(os.open(path, os.O_RDONLY | _FLAGS), "rb") as file:
                state = self._checked(file, key)
        except OSError:  # missing, or unreadable at the moment
            return None
        if state is None:
            self.remove(tokens, adapter)
        else:
            with suppress(OSError):
                os.utime(path)  # the least recently used files are removed first
        return state

    def _checked(self, file: BinaryIO, key: bytes) -> bytes | None:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or not _is_private(status) or status.st_size > self._most_bytes:
            return None
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        magic, file_key, digest, length = _HEAD.unpack(head)
        if (magic, file_key, length) != (MAGIC, key, status.st_size - _HEAD.size):
            return None
        state = file.read(length)
        return state if hashlib.sha256(state).digest() == digest else None

    def write(self, tokens: Sequence[int], state: bytes, adapter: str | None = None) -> None:
        """Store the state that the model has after these tokens.

        If several processes write the same state at once, a reader still finds a whole file or none.
        """
        key = self._key(tokens, adapter)
        with suppress(OSError):
            for folder in (self._root, self._folder):  # parents=True alone would not make the parent private
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._is_private() and self._unchanged() and self._make_room(_HEAD.size + len(state)):
                with replacing(self._path(key), private=True) as temporary:
                    digest = hashlib.sha256(state).digest()
                    with temporary.open("wb") as file:
                        file.write(_HEAD.pack(MAGIC, key, digest, len(state)))
                        file.write(state)

    def remove(self, tokens: Sequence[int], adapter: str | None = None) -> None:
        """Remove the stored state for these tokens."""
        with suppress(OSError):
            self._path(self._key(tokens, adapter)).unlink()

    def _key(self, tokens: Sequence[int], adapter: str | None) -> bytes:
        ids = np.asarray(tokens, dtype="<i4").tobytes()
        facts = self._facts if adapter is None else f"{self._facts} adapter {self._adapters[adapter]}"
        return hashlib.sha256(facts.encode() + b"\0" + ids).digest()

    def _path(self, key: bytes) -> Path:
        return self._folder / f"{key.hex()}.prefix"

    def _is_private(self) -> bool:
        return all(_is_private(os.lstat(folder)) for folder in (self._root, self._folder))

    def _make_room(self, size: int) -> bool:
        """Remove the least recently used states until `size` bytes fit. Return False if they cannot fit."""
        states = []
        for path in self._root.rglob("*"):
            with suppress(FileNotFoundError):  # another process removed it
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    states.append((status.st_mtime_ns, status.st_size, path))
        total = sum(state_size for _, state_size, _ in states)
        for _, state_size, path in sorted(states):
            if total + size <= self._most_bytes:
                break
            path.unlink(missing_ok=True)
            total -= state_size
        return total + size <= self._most_bytes


def _is_private(status: os.stat_result) -> bool:
    """Whether only this user could have written the file or folder. Always true on systems without user ids."""
    if not hasattr(os, "getuid"):
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
