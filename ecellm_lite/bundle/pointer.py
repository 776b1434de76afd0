"""Records which version of a bundle is current: in a symbolic link or, on Windows, in a small file.

A change is atomic in both cases.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from ecellm_lite.models.files import replacing

LINK, FILE = "current", "current.txt"


def read_link(root: Path) -> str | None:
    """Return the name of the version that the link in `root` points to, or None if there is no link."""
    try:
        return (root / LINK).readlink().name
    except OSError:
        return None


def write_link(root: Path, version: str) -> None:
    """Point the link in `root` to `version` in one step.

    Other processes see either the old or the new version.
    """
    temporary = root / f".{LINK}.{secrets.token_hex(4)}"
    temporary.symlink_to(Path("versions") / version, target_is_directory=True)
    temporary.replace(root / LINK)
    _sync(root)


def read_file(root: Path) -> str | None:
    """Return the name of the current version by `root`/current.txt, or None if the file is missing or invalid."""
    try:
        name = (root / FILE).read_text("utf-8").strip()
    except (OSError, ValueError):
        return None
    return name if name and Path(name).name == name else None


def write_file(root: Path, version: str) -> None:
    """Write the name of the current version to the file in `root`. A reader sees the old name or the new one.

    Windows needs a file because its users may not be allowed to make links.
    """
    with replacing(root / FILE) as temporary:
        temporary.write_text(version + "\n", "utf-8")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


read, write = (read_file, write_file) if os.name == "nt" else (read_link, write_link)
