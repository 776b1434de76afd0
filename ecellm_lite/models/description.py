"""Describes the store and its models as plain data, for the command line and other front ends."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ecellm_lite.errors import ModelError
from ecellm_lite.models.calibration_files import calibration_folder
from ecellm_lite.models.calibrations import read_calibration
from ecellm_lite.models.catalogue import CATALOGUE
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.resolve import tasks_of
from ecellm_lite.models.store import Store, StoredModel


def describe_store(store: Store) -> dict[str, Any]:
    """Return a dict that describes the models in the store and the published models. It has these keys:

    - `store`: the manifests of the stored models.
    - `damaged`: what is wrong with each damaged model in the store, by the model's name.
    - `catalogue`: the published models.
    """
    manifests, damaged = [], {}
    for name in store.names():
        try:
            manifests.append(asdict(store.get(name).manifest))
        except ModelError as error:
            damaged[name] = str(error)
    return {"store": manifests, "damaged": damaged, "catalogue": [asdict(entry) for entry in CATALOGUE.values()]}


def describe_model(store: Store, name: str, *, verify: bool = False) -> dict[str, Any]:
    """Return a model's manifest, its calibrations, and facts from its file, as plain data.

    With `verify`, the file is hashed again. Raises ModelError if the model does not exist or is damaged.
    """
    model = store.get(name)
    header = read_header(model.path)
    if verify and (digest := store.identify(model.path, again=True).sha256) != model.manifest.sha256:
        raise ModelError(
            f"The model {name!r} is damaged: its sha256 is {digest} and its manifest says {model.manifest.sha256}",
            step=f"remove it with `ecellm-lite models remove {name}` and add it again",
        )
    return {
        **asdict(model.manifest),
        "path": str(model.path),
        "architecture": header.metadata.get("general.architecture"),
        "tasks": list(tasks_of(header)),
        "tensors": len(header.tensors),
        "verified": verify or None,
        "calibrations": _calibrations(store, model),
    }


def _calibrations(store: Store, model: StoredModel) -> list[str]:
    """Return the name of each of a model's calibrations. If a calibration is not used, the reason follows its name.

    If a calibration's file cannot be read, the list has the error's message instead of the name.
    """
    names = []
    for path in sorted(calibration_folder(store, model).glob("[!.]*.json")):
        try:
            calibration = read_calibration(path)
        except ModelError as error:
            names.append(str(error))
            continue
        if calibration:
            reason = calibration.scope.differs_in_model(model.manifest.sha256, model.manifest.envelope)
            names.append(f"{calibration.name} is not used: {reason}" if reason else calibration.name)
    return names
