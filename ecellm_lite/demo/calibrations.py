"""Copies the demo's calibrations into the store's folder for the demo model.

The shipped files `calibrations/TASK.json` were fitted to rows that the adapter was not trained on (see
adapter/README.md). A record in the model's calibration folder lists the copied files. The record makes three things
possible:

- A calibration that the user fitted is never overwritten.
- A copy that the user removed is not restored.
- An unchanged copy is replaced when a later version of this package ships a new file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ecellm_lite.errors import ModelError
from ecellm_lite.models.calibration_files import calibration_folder
from ecellm_lite.models.calibrations import read_calibration
from ecellm_lite.models.files import replacing
from ecellm_lite.models.store import Store, StoredModel

SHIPPED = Path(__file__).parent / "calibrations"
MODEL_SHA256 = "a7d4ccfd3f096f7ae054ffc6a058cfab0174925230cb82ab88fbe9fbeb312b64"  # of the file they were fitted with
RECORD = "shipped.sha256"  # in the form of sha256sum


def install_calibrations(store: Store, model: StoredModel) -> None:
    """Copy the shipped calibrations into the demo's calibration folder.

    The calibrations belong to one version of the demo model's file. For a file with another sha256, nothing is copied.
    If the store cannot be written, nothing is raised, and the demo may answer without calibration.
    """
    if model.manifest.sha256 != MODEL_SHA256:
        return
    shipped = {path.name: path.read_bytes() for path in sorted(SHIPPED.glob("*.json"))}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in shipped.items()}
    folder = calibration_folder(store, model)
    recorded = _recorded(folder / RECORD)
    if recorded == digests:
        return
    with suppress(OSError):
        for name in sorted({*digests, *recorded}):
            path = folder / name
            if not _replaceable(path, recorded.get(name)):
                continue
            if name in shipped:
                with replacing(path) as temporary:
                    temporary.write_bytes(shipped[name])
            else:
                path.unlink(missing_ok=True)
        with replacing(folder / RECORD) as temporary:
            temporary.write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()), "utf-8")


def _replaceable(path: Path, recorded: str | None) -> bool:
    """Return whether a shipped calibration may be written to this path.

    There are three such cases: the file there is the last copy, unchanged; there is no file, and none was copied
    before; or the file was fitted to an older demo model.

    `recorded`: the sha256 of the last copy, or None if there was no copy.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    if digest == recorded:
        return True
    with suppress(ModelError):
        calibration = read_calibration(path)
        return calibration is not None and calibration.scope.model != MODEL_SHA256
    return False


def _recorded(path: Path) -> Mapping[str, str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    pairs = (line.split("  ", 1) for line in lines)
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2 and Path(pair[1]).name == pair[1]}
