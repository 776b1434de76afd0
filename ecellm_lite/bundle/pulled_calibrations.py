"""Brings a stored model's calibrations up to date with a feed.

A calibration that the user fitted is not replaced, and one that the user removed does not come back.

A feed is a signed folder of models. A record file beside the calibrations lists the calibrations that the feed had at
the last pull, each with its name and sha256 (see models/calibration_copies.py). Before the first pull, the file lists
the calibrations that came with a bundle. Another record file lists those that came with the demo model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ecellm_lite.bundle.feed import CALIBRATION, MODEL, FeedFile, FeedModel
from ecellm_lite.bundle.index import Index
from ecellm_lite.models.calibration_copies import is_replaceable, read_record, write_record
from ecellm_lite.models.calibration_files import calibration_folder
from ecellm_lite.models.calibrations import read_calibration
from ecellm_lite.models.files import copy_file, sha256_of
from ecellm_lite.models.store import Store, StoredModel

RECORD = "pulled.sha256"
SHIPPED = "shipped.sha256"  # the record of the demo, ecellm_lite/demo/calibrations.py


def record_copies(folder: Path, index: Index) -> None:
    """Write the record files of the calibrations that came with a bundle.

    `folder`: the folder with the bundle's unpacked files. `index`: the bundle's index.
    """
    digests: dict[Path, dict[str, str]] = {}
    for file in index.files:
        if file.model_file and file.model_file.startswith(f"{CALIBRATION}/"):
            path = folder / file.path
            digests.setdefault(path.parent, {})[path.name] = file.sha256
    for parent, copies in digests.items():
        write_record(parent / RECORD, copies)


class PulledCalibrations:
    """The calibrations of a model in a feed, and their copies beside the stored model of the same name."""

    def __init__(self, model: FeedModel, store: Store, stored: StoredModel) -> None:
        self._store, self._stored = store, stored
        self._folder = calibration_folder(store, stored)
        self._weights = next(file.sha256 for file in model.files if file.path == MODEL)
        self._recorded = read_record(self._folder / RECORD)
        self._copies = {**read_record(self._folder / SHIPPED), **self._recorded}
        self._digests = {
            Path(file.path).name: file.sha256 for file in model.files if file.path.startswith(f"{CALIBRATION}/")
        }

    @property
    def recorded(self) -> bool:
        """Whether the record names exactly the calibrations of the feed."""
        return self._recorded == self._digests

    def needs(self, file: FeedFile) -> bool:
        """Return whether `file`, a calibration in the feed, must be copied."""
        path = self._folder / Path(file.path).name
        if path.is_file() and sha256_of(path) == file.sha256:
            return False
        return is_replaceable(path, self._copies.get(path.name), self._weights)

    def update(self, fetched: Mapping[str, Path]) -> None:
        """Copy the fetched calibrations. Remove the copies of calibrations that are no longer in the feed.

        A copy that the user replaced is not removed.

        `fetched`: the path of each fetched calibration, by the calibration's file name. Raises ModelError if a fetched
        calibration is damaged.
        """
        for name, path in fetched.items():
            calibration = read_calibration(path)
            if calibration and f"{calibration.scope.task}.json" == name:
                with self._store.writing_beside(self._stored):
                    copy_file(path, self._folder / name)
        with self._store.writing_beside(self._stored):
            for name in self._recorded.keys() - self._digests.keys():
                if is_replaceable(self._folder / name, self._recorded[name], self._weights):
                    (self._folder / name).unlink(missing_ok=True)
            if not self.recorded:
                write_record(self._folder / RECORD, self._digests)
