"""Checks the paths of files in a bundle.

They must be safe on every platform. No two may be equal when case is ignored.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

LONGEST = 400  # characters; the folder it is installed in comes on top
DEEPEST = 16

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"\\|?*]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def check_path(path: str) -> None:
    """Raise ValueError if a path is not a valid relative path on every platform.

    It must use '/' and Unicode's composed form (NFC), and must not be too long or too deep.
    """
    parts = path.split("/")
    if len(path) > LONGEST or len(parts) > DEEPEST:
        raise ValueError(f"the path {path[:80]!r} is too long or too deep")
    for part in parts:
        if not part or part[0] == " " or part[-1] in ". " or _FORBIDDEN.search(part) or _RESERVED.fullmatch(part):
            raise ValueError(f"the path {path[:80]!r} is not safe on every platform")
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"the path {path[:80]!r} is not valid text") from None
    if unicodedata.normalize("NFC", path) != path:
        raise ValueError(f"the path {path[:80]!r} is not in Unicode's composed form")


def check_paths(paths: Iterable[str]) -> None:
    """Raise ValueError if a path is not safe, or if two paths conflict.

    Two paths conflict if they are equal or differ only in case. `a` and `a/b` also conflict, because `a` cannot be both
    a file and a folder.
    """
    files: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        check_path(path)
        key = unicodedata.normalize("NFC", path.casefold())
        if key in files:
            raise ValueError(f"two paths are equal, or differ only in case: {path[:80]!r}")
        files.add(key)
        folders.update(key[:end] for end, letter in enumerate(key) if letter == "/")
    if both := files & folders:
        raise ValueError(f"{min(both)[:80]!r} is a file and a folder")
