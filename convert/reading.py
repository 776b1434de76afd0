"""Reads untrusted files.

Small files are read whole, up to a limit. Large files are read one range at a time.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from ecellm_lite.convert.descriptors import read_into
from ecellm_lite.errors import ModelError

MAX_JSON_BYTES = 64 << 20


def damaged(path: Path, problem: str) -> ModelError:
    """Return the error for a file with invalid content.

    `problem` is the end of a sentence that begins with the path.
    """
    return ModelError(f"{path} {problem}", step="download it again", file=str(path))


def unreadable(path: Path, error: OSError) -> ModelError:
    """Return the error for a file that the operating system fails to read."""
    return ModelError(f"{path} cannot be read ({error.strerror})", step="check the path and its rights", file=str(path))


def changed_meanwhile(path: Path) -> ModelError:
    """Return the error for a file that was changed while it was in use."""
    return ModelError(f"{path} was changed while it was read", step="start again when it is complete", file=str(path))


def open_for_reading(path: Path) -> int:
    """Open a file and return its descriptor. Raises ModelError if the file cannot be opened."""
    # Without O_NONBLOCK, opening a FIFO would wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        return os.open(path, flags)
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError:  # a zero byte
        raise ModelError(f"{str(path)[:80]!r} is not a valid path", step="check it") from None


def read_fully(descriptor: int, path: Path, buffer: memoryview, offset: int) -> None:
    """Fill a buffer from an open file, starting at `offset`. Raises ModelError if the file ends too early."""
    done = 0
    while done < len(buffer):
        try:
            count = read_into(descriptor, buffer[done:], offset + done)
        except OSError as error:
            raise unreadable(path, error) from None
        if not count:
            raise damaged(path, "became shorter while it was read")
        done += count


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a small file.

    Raises ModelError if the file cannot be read or has more than `limit` bytes.
    """
    try:
        with open(open_for_reading(path), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ModelError(f"{path} is not a regular file", step="give a regular file", file=str(path))
            content = file.read(limit + 1)
    except OSError as error:
        raise unreadable(path, error) from None
    if len(content) > limit:
        raise damaged(path, f"has more than {limit:,} bytes, far beyond what such a file needs")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises ModelError if the file does not hold an object."""
    try:
        content = json.loads(read_bytes(path, MAX_JSON_BYTES).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"is not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise damaged(path, "does not hold a JSON object")
    return content


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file in a folder. Raises ModelError if the name or a link leads out of the folder.

    Links from a snapshot of the Hugging Face cache to a blob of the cache are allowed.
    """
    if not name or "/" in name or "\\" in name or name in {".", ".."} or "\0" in name:
        raise damaged(folder, f"names the file {name[:80]!r}, which is not in the folder")
    path = folder / name
    try:
        home, target = folder.resolve(), path.resolve()
    except (OSError, RuntimeError, ValueError):  # a link to itself, or a name that no file can have
        raise damaged(folder, f"has no file {name[:80]!r} that can be reached") from None
    if target.parent != home and not _is_cached(home, target):
        raise ModelError(f"{path} is a link out of its folder, to {target}", step="copy the file there", file=str(path))
    return path


def _is_cached(home: Path, target: Path) -> bool:
    """Return whether a file is a blob of the Hugging Face cache that the snapshot `home` may link to.

    A blob is the file CACHE/models--X/blobs/ETAG. Since huggingface_hub 2, this can be a link to CACHE/blobs/HA/HASH,
    which all repositories share. HASH has 64 hexadecimal digits and begins with HA.
    """
    repository = home.parent.parent
    if home.parent.name != "snapshots":
        return False
    shared = repository.parent / "blobs" / target.name[:2]
    is_shared = target.parent == shared and re.fullmatch("[0-9a-f]{64}", target.name) is not None
    return target.parent == repository / "blobs" or is_shared
