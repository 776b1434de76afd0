"""Remembers the newest accepted index of each bundle and feed, so that an older one can be refused.

The index with the highest serial number is the newest.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ecellm_lite.documents import read_document
from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import replacing

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest accepted index of one bundle or feed. `index` is the sha256 of this index."""

    format: int
    name: str
    serial: int
    index: str


def check_newer(path: Path, name: str, serial: int, sha256: str) -> None:
    """Raise ModelError if the index with this `serial` is older than the one recorded in the file at `path`.

    Raises ModelError also if the recorded index has the same serial number but another sha256, or if the file is
    damaged. If the file does not exist, no index was accepted before, and the check passes. `name` is the index's name
    in error messages.
    """
    try:
        newest = read_document(Newest, path, largest=1 << 12, formats=(_FORMAT,))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        message = f"{path} is damaged ({error})"
        raise ModelError(message, step="remove it, if you are sure that nobody offers you an old version") from None
    if serial < newest.serial or (serial == newest.serial and sha256 != newest.index):
        raise ModelError(
            f"{name} has serial number {serial}, and {newest.serial} was accepted before",
            step="get the newest one, or ask its maker for one with a higher serial number",
        )


def remember(path: Path, name: str, serial: int, sha256: str) -> None:
    """Record an index in the file at `path` as the newest accepted one.

    `name`, `serial`, `sha256`: the index's name, serial number and hash.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(asdict(Newest(_FORMAT, name, serial, sha256))) + "\n", "utf-8")
