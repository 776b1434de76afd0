"""Where a store keeps calibrations.

A model in the store has its calibrations in the folder `calibration` beside it. The calibrations of any other GGUF file
are in the store, under the file's sha256. Inside such a folder, the adapter with sha256 `5e1f…` has its calibrations in
the folder `5e1f…`.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.calibrations import TASK_NAME, Calibration, Calibrations, read_calibration
from ecellm_lite.models.store import Store, StoredModel


def calibration_folder(store: Store, model: StoredModel, adapter: str | None = None) -> Path:
    """Return the folder with the calibrations of a model, or of an adapter on this model.

    `adapter`: the adapter's sha256, or None for the model alone.
    """
    if store.owns(model):
        folder = model.path.parent / "calibration"
    else:
        folder = store.root / "calibration" / model.manifest.sha256
    return folder / adapter if adapter else folder


def stored_calibrations(store: Store, model: str, envelope: str, adapter: str | None = None) -> Calibrations:
    """Return the stored calibrations of a model, or of an adapter on this model. The model need not be in the store.

    `model`: the sha256 of the model's file. `adapter`: the adapter's sha256, or None for the model alone.
    """
    folder = store.root / "calibration" / model
    for name in store.names():
        with suppress(ModelError):  # another model that is damaged
            if (stored := store.get(name)).manifest.sha256 == model:
                folder = calibration_folder(store, stored)
    return Calibrations(model, envelope, folder / adapter if adapter else folder, adapter=adapter)


def calibration_path(store: Store, model: StoredModel, task: str, adapter: str | None = None) -> Path:
    """Return the path of a task's calibration for a model, or for an adapter on this model.

    `adapter`: the adapter's sha256, or None for the model alone.

    Raises UsageError for an invalid task name.
    """
    if not TASK_NAME.fullmatch(task):
        message = f"{task[:80]!r} cannot be the name of a calibrated task"
        raise UsageError(message, step="use lower-case letters, digits and '_'")
    return calibration_folder(store, model, adapter) / f"{task}.json"


def keep_calibration(store: Store, model: StoredModel, calibration: Calibration) -> Path:
    """Store a calibration of a model and return its path. Raises ModelError if the model no longer exists."""
    path = calibration_path(store, model, calibration.scope.task, calibration.scope.adapter)
    with store.writing_beside(model):
        calibration.write(path)
    return path


def fitting_calibrations(store: Store, model: StoredModel, adapter: str | None = None) -> list[Path]:
    """Return the paths of the calibrations that were fitted to the current version of the model's file.

    `adapter`: the sha256 of an adapter on this model, or None for the model alone.

    Raises ModelError if a calibration is damaged.
    """
    return [
        path
        for path in sorted(calibration_folder(store, model, adapter).glob("[!.]*.json"))
        if (calibration := read_calibration(path))
        and (calibration.scope.model, calibration.scope.adapter) == (model.manifest.sha256, adapter)
    ]


def remove_calibrations(
    store: Store, model: StoredModel, task: str | None = None, adapter: str | None = None
) -> list[str]:
    """Remove stored calibrations of a model, or of an adapter on this model. Return the names of their tasks.

    `task`: the task whose calibration is removed, or None for all tasks.
    `adapter`: the adapter's sha256, or None for the model alone.

    Raises ModelError if a file cannot be removed.
    """
    folder = calibration_folder(store, model, adapter)
    paths = [calibration_path(store, model, task, adapter)] if task else sorted(folder.glob("*.json"))
    with store.writing_beside(model):
        present = [path for path in paths if path.is_file()]
        for path in present:
            try:
                path.unlink()
            except OSError as error:
                message = f"{path} cannot be removed ({error.strerror})"
                raise ModelError(message, step="check its permissions") from None
    return [path.stem for path in present]
