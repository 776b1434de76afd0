"""API keys: which clients may send requests, and how many rows of each client may wait at a time.

A file has one key per line: the client's name, the key, and optionally how many of the client's rows may wait.

    till-1    3Jk…   200
    warehouse 9xQ…

Only hashes of keys stay in memory. Checking a wrong key always takes equally long, so a client cannot guess a key part
by part.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ecellm_lite.errors import InputError

SHORTEST = 16  # characters
LARGEST = 1 << 16  # bytes of a file of keys
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Key:
    """A client's API key. Only its hash is kept, not the key itself. `name` is the client's name.

    `rows`: how many of the client's rows may wait at a time, or None for the server's limit.
    """

    name: str
    digest: bytes
    rows: int | None = None

    @classmethod
    def of(cls, name: str, key: str, rows: int | None = None) -> Key:
        """Return the Key for a client with this name and this API key.

        Raises InputError if the API key is too short, or has characters that an HTTP header cannot contain.
        """
        if len(key) < SHORTEST or not _KEY.fullmatch(key):
            raise InputError(
                f"The API key {name!r} has {len(key)} characters",
                step=f"use at least {SHORTEST} ASCII characters without spaces: `openssl rand -hex 24` makes one",
                settings=("api_keys",),
            )
        return cls(name, _digest(key), rows)


class Keys:
    """The accepted API keys. If there are none, requests need no key."""

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def named(self, name: str) -> Key | None:
        """Return the key with this name, or None if there is none."""
        return next((key for key in self._keys if key.name == name), None)

    def find(self, presented: str) -> Key | None:
        """Return the accepted key that equals `presented`, the key in a request. Return None if there is none.

        `presented` is always compared with all accepted keys, so the time of the check reveals nothing.
        """
        digest = _digest(presented)
        match: Key | None = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                match = key
        return match


def read_keys(path: Path) -> list[Key]:
    """Return the keys in a file. Raises InputError with the number of the wrong line."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise _error(path, f"cannot be read ({error.strerror})", "give a file of keys") from None
    if len(data) > LARGEST:
        raise _error(path, f"has more than {LARGEST:,} bytes", "give a file of keys")
    keys: dict[str, Key] = {}
    # Editors of Windows begin a file with a byte-order mark, which utf-8-sig leaves out.
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) not in (2, 3) or not _NAME.fullmatch(words[0]) or words[0] in keys:
            reason = f"has no name and key, or a repeated name, in line {number}"
            raise _error(path, reason, "write NAME KEY, or NAME KEY ROWS", number)
        if len(words) == 3 and not (len(words[2]) <= 9 and words[2].isdecimal() and int(words[2])):
            raise _error(path, f"has no number of rows in line {number}", "write NAME KEY ROWS", number)
        key = Key.of(words[0], words[1], int(words[2]) if len(words) == 3 else None)
        if other := next((other for other in keys.values() if other.digest == key.digest), None):
            reason = f"has the key of {other.name} again in line {number}"
            raise _error(path, reason, "give each client a key of its own", number)
        keys[key.name] = key
    if not keys:
        raise _error(path, "has no key", "write NAME KEY in a line")
    return list(keys.values())


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _error(path: Path, reason: str, step: str, line: int | None = None) -> InputError:
    return InputError(f"The file {path} {reason}", step=step, settings=("api_keys",), file=str(path), line=line)
