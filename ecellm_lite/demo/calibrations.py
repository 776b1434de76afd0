"""Copies the demo's calibrations into the store's folder for the demo model.

The shipped files `calibrations/TASK.json` were fitted to rows that the adapter was not trained on (see
adapter/README.md). A record in the model's calibration folder lists the copied files (see
models/calibration_copies.py). So a user's own calibration is not overwritten, and one that the user removed is not
copied again.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from ecellm_lite.models.calibration_copies import is_replaceable, read_record, write_record
from ecellm_lite.models.calibration_files import calibration_folder
from ecellm_lite.models.files import replacing
from ecellm_lite.models.store import Store, StoredModel

SHIPPED = Path(__file__).parent / "calibrations"
MODEL_SHA256 = "037fdb2d00d67d13601769c22490d907f4157a98569a07bc257bf3db421829d5"  # of the file they were fitted with
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
    recorded = read_record(folder / RECORD)
    if recorded == digests:
        return
    with suppress(OSError):
        for name in sorted({*digests, *recorded}):
            path = folder / name
            if not is_replaceable(path, recorded.get(name), MODEL_SHA256):
                continue
            if name in shipped:
                with replacing(path) as temporary:
                    temporary.write_bytes(shipped[name])
            else:
                path.unlink(missing_ok=True)
        write_record(folder / RECORD, digests)
