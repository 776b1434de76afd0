"""Records which calibrations were copied into a model's folder, from this package or from a feed.

A record is a file in the folder, in the format of the program sha256sum. Records make three things possible:

- A calibration that the user fitted is never overwritten.
- A copy that the user removed is not restored.
- An unchanged copy is replaced when a later version comes, or removed when the calibration is withdrawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ecellm_lite.errors import ModelError
from ecellm_lite.models.calibrations import read_calibration
from ecellm_lite.models.files import replacing, sha256_of


def read_record(path: Path) -> Mapping[str, str]:
    """Return a record: the sha256 of each copied calibration, by its file name.

    A record that is missing or cannot be read is empty. Damaged lines are left out.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    pairs = (line.split("  ", 1) for line in lines)
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2 and Path(pair[1]).name == pair[1]}


def write_record(path: Path, digests: Mapping[str, str]) -> None:
    """Write a record atomically. `digests`: the sha256 of each copied calibration, by its file name."""
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()), "utf-8")


def is_replaceable(path: Path, recorded: str | None, model: str) -> bool:
    """Return whether a calibration may be copied to `path`, or the file at `path` may be removed.

    Calibrations are copied from this package or from a feed. The answer is yes in three cases:

    - The file at `path` is still exactly what was copied there last.
    - There is no file at `path`, and nothing was copied to `path` before.
    - The file at `path` is a calibration of another model.

    `recorded`: the sha256 of the last copy, or None if nothing was copied. `model`: the sha256 of the model's file.
    """
    digest = sha256_of(path) if path.is_file() else None
    if digest == recorded:
        return True
    with suppress(ModelError):
        calibration = read_calibration(path)
        return calibration is not None and calibration.scope.model != model
    return False
