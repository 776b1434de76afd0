"""The index of a bundle: its name and serial number, and each file's path, size, hashes and mode, as JSON.

Only the index is signed. This protects all other bytes of the bundle too: the index names the sha256 of each file, and
layout.py computes the archive's headers from the index.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from ecellm_lite.bundle.paths import check_paths
from ecellm_lite.documents import parse_document

FORMAT = 1
LARGEST = 1 << 24  # bytes, of an index
MOST_FILES = 20_000
LARGEST_FILE = 1 << 44
LARGEST_SERIAL = 1 << 52  # so that every JSON reader keeps it exactly
FOLDERS = ("adapters", "home", "licences", "program", "wheels")
MODES = (0o644, 0o755)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?<![.])")
_MODEL_FILE = re.compile(r"home/models/[^/]+/(?P<file>.+)")
_NAMED = {
    "own tasks": re.compile(r"home/tasks/([^/]+)\.toml"),
    "calibrations": re.compile(r"home/models/[^/]+/calibration/(?:[^/]+/)?([^/]+)\.json"),
    "adapters": re.compile(r"adapters/([^/]+)\.gguf"),
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CRC32 = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A file: its path in the installed folder, size in bytes, sha256 and CRC-32 in hex, and mode (0o644 or 0o755).

    A delta is a bundle that updates an older bundle. It leaves out unchanged files, and the installer takes them from
    the installed version. For these files, `included` is False.
    """

    path: str
    size: int
    sha256: str
    crc32: str
    mode: int
    included: bool = True

    @property
    def model_file(self) -> str | None:
        """The file's path in its model's folder, such as `calibration/TASK.json`. None if it belongs to no model."""
        match = _MODEL_FILE.fullmatch(self.path)
        return match["file"] if match else None

    @property
    def of_own_task(self) -> bool:
        """Whether the file is one of the user's own tasks, or a file that such a task names."""
        return self.path.startswith("home/tasks/")


@dataclass(frozen=True, slots=True)
class Index:
    """A bundle's index. Of two bundles with the same name, the one with the higher serial number is newer.

    `model`: the model's name in the store.
    `platform`: the platform of the bundle's program, such as linux-x86_64. It is empty if the bundle has no program.
    `starter`: the sha256 of the script in front of the archive. It is None if the bundle has no script.
    `base`: the sha256 of the older bundle's index if this bundle is a delta, otherwise None.
    """

    format: int
    name: str
    serial: int
    created: str
    model: str
    platform: str
    starter: str | None
    base: str | None
    files: list[BundleFile]

    @property
    def by_path(self) -> Mapping[str, BundleFile]:
        """The bundle's files by path."""
        return {file.path: file for file in self.files}

    @property
    def included(self) -> Sequence[BundleFile]:
        """The files whose bytes are in this bundle, in order."""
        return [file for file in self.files if file.included]

    @property
    def named(self) -> Mapping[str, Sequence[str]]:
        """The names of the user's own tasks, the calibrated tasks, and the adapters, by kind (such as `adapters`)."""
        matches_of = {kind: [form.fullmatch(file.path) for file in self.files] for kind, form in _NAMED.items()}
        return {kind: sorted({match[1] for match in matches if match}) for kind, matches in matches_of.items()}

    def encode(self) -> bytes:
        """Return the index as JSON. The length does not depend on the hashes, because they have a fixed width."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n"


def read_index(data: bytes) -> Index:
    """Return the index that `data` encodes. Raises ValueError if it is invalid."""
    index = parse_document(Index, data, formats=(FORMAT,))
    check_index(index)
    if index.encode() != data:
        raise ValueError("its JSON is not in the exact form that ecellm-lite writes")
    return index


def check_index(index: Index) -> None:
    """Raise ValueError if the index has an invalid value."""
    if len(index.files) > MOST_FILES:
        raise ValueError(f"it has {len(index.files):,} files, and at most {MOST_FILES:,} are allowed")
    if not _NAME.fullmatch(index.name):
        raise ValueError(f"name is {index.name[:80]!r}")
    if not 0 < index.serial < LARGEST_SERIAL:
        raise ValueError(f"serial is {index.serial}")
    for key, value in (("base", index.base), ("starter", index.starter)):
        if value is not None and not _SHA256.fullmatch(value):
            raise ValueError(f"{key} is {value[:80]!r}")
    for file in index.files:
        if not 0 <= file.size <= LARGEST_FILE or file.mode not in MODES:
            raise ValueError(f"the size or mode of {file.path[:80]!r} is invalid")
        if not _SHA256.fullmatch(file.sha256) or not _CRC32.fullmatch(file.crc32):
            raise ValueError(f"the sha256 or crc32 of {file.path[:80]!r} is invalid")
        if not file.included and index.base is None:
            raise ValueError(f"{file.path[:80]!r} is not included, and the bundle is no delta")
        if file.path.partition("/")[0] not in FOLDERS or "/" not in file.path:
            raise ValueError(f"{file.path[:80]!r} is in none of the folders {', '.join(FOLDERS)}")
    check_paths(file.path for file in index.files)
