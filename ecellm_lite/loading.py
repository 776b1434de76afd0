"""Loads a model by name for a Runtime: the engine, the model's name and envelope, and its calibrations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecellm_lite.answers.answer import ModelName
from ecellm_lite.engine.interface import Backend
from ecellm_lite.engine.offload import Placement
from ecellm_lite.engine.prefix_files import PrefixFiles
from ecellm_lite.envelopes import get_envelope
from ecellm_lite.models.calibrations import Calibrations, calibration_folder
from ecellm_lite.models.store import Store, StoredModel


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model with its name, envelope and calibrations.

    `files` keeps on disk what the model computed for instructions, `placement` says which layers are on which GPU, and
    `intended_tasks` are the tasks that the model's file names (empty if it names none).
    """

    backend: Backend
    model: ModelName
    envelope: str
    calibrations: Calibrations | None = None
    files: PrefixFiles | None = None
    placement: Placement | None = None
    intended_tasks: tuple[str, ...] = ()


def find_model(model: str | Path | None, envelope: str | None = None) -> tuple[Store, StoredModel]:
    """Return the store and the model that a name means, checked but not loaded; the demo is made if it is missing.

    Raises ModelError if there is no such model or its file is damaged, UsageError for an unknown envelope.
    """
    from ecellm_lite.demo.build import ensure_demo
    from ecellm_lite.models.resolve import resolve

    if envelope:
        get_envelope(envelope)  # raises before any model is searched for
    store = Store()
    stored = resolve(str(model) if model else None, store, {"demo": ensure_demo}, envelope=envelope)
    if envelope:
        stored = replace(stored, manifest=replace(stored.manifest, envelope=envelope))
    return store, stored


def load_model(model: str | Path | None, *, envelope: str | None, prefix_files: bool, **settings: Any) -> LoadedModel:
    """Return the model that a name means, loaded with these settings of engine.settings.Settings (None: not set).

    Raises ModelError if there is no such model or its file is damaged, UsageError for invalid settings.
    """
    from ecellm_lite.engine.llama import LlamaBackend
    from ecellm_lite.engine.tuned import tuned_settings

    store, stored = find_model(model, envelope)
    envelope = stored.manifest.envelope
    calibrations = Calibrations(stored.manifest.sha256, envelope, calibration_folder(store, stored))
    name = ModelName(stored.manifest.name, stored.manifest.sha256)
    backend = LlamaBackend(stored.path, tuned_settings(store, stored, **settings))
    files = None
    try:
        stored.check_unchanged()  # llama.cpp opened the file by name, after it was checked
        # A GPU reads an instruction in milliseconds: storing its state would only take up space.
        if prefix_files and not backend.placement.n_gpu_layers:
            files = PrefixFiles(store.states, name.sha256, backend.circumstances, unchanged=lambda: stored.unchanged)
    except BaseException:
        backend.close()
        raise
    return LoadedModel(backend, name, envelope, calibrations, files, backend.placement, stored.tasks)
