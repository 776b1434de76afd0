"""Loads a model for a Runtime: the engine, the model's name and envelope, and its calibrations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ecellm_lite.answers.answer import AdapterName, ModelName
from ecellm_lite.engine.interface import Backend
from ecellm_lite.engine.offload import Placement
from ecellm_lite.engine.prefix_files import PrefixFiles
from ecellm_lite.envelopes import get_envelope
from ecellm_lite.models.adapters import find_adapters
from ecellm_lite.models.calibration_files import calibration_folder
from ecellm_lite.models.calibrations import Calibrations
from ecellm_lite.models.store import Store, StoredModel


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """A LoRA adapter that is loaded with a model.

    `model`: the names and hashes of the model and the adapter, as answers show them.
    """

    model: ModelName
    calibrations: Calibrations | None = None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model with its name, envelope and calibrations.

    `files`: stores on disk what the model computed for instructions. None if nothing is to be stored.
    `placement`: which layers are on which GPU.
    `intended_tasks`: the tasks named in the model's file, if any.
    `adapters`: the backend's adapters, by name.
    """

    backend: Backend
    model: ModelName
    envelope: str
    calibrations: Calibrations | None = None
    files: PrefixFiles | None = None
    placement: Placement | None = None
    intended_tasks: tuple[str, ...] = ()
    adapters: Mapping[str, LoadedAdapter] = field(default_factory=dict)


def find_model(model: str | Path | None, envelope: str | None = None) -> tuple[Store, StoredModel]:
    """Return the user's store, and the model with this name or path. The model is checked but not loaded.

    The demo is made if it is missing. Raises ModelError if there is no such model or its file is damaged, and
    UsageError for an unknown envelope.
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


def load_model(
    model: str | Path | None,
    *,
    envelope: str | None,
    prefix_files: bool,
    adapters: Mapping[str, str | Path] | None = None,
    **settings: Any,
) -> LoadedModel:
    """Load and return the model with this name or path.

    `settings`: values for fields of engine.settings.Settings. A field that is missing or None keeps its default.
    `adapters`: the files of LoRA adapters to load with the model, by name.

    Raises ModelError if there is no such model or a file is damaged, and UsageError for invalid settings.
    """
    from ecellm_lite.engine.llama import LlamaBackend
    from ecellm_lite.engine.tuned import tuned_settings

    store, stored = find_model(model, envelope)
    envelope = stored.manifest.envelope
    calibrations = Calibrations(stored.manifest.sha256, envelope, calibration_folder(store, stored))
    name = ModelName(stored.manifest.name, stored.manifest.sha256)
    adapter_files = find_adapters(adapters, store, stored)
    loaded = {
        file.name: LoadedAdapter(
            replace(name, adapter=AdapterName(file.name, file.sha256)),
            Calibrations(name.sha256, envelope, calibration_folder(store, stored, file.sha256), adapter=file.sha256),
        )
        for file in adapter_files
    }
    paths = {file.name: file.path for file in adapter_files}
    backend = LlamaBackend(stored.path, tuned_settings(store, stored, **settings), paths)
    backend.vocabulary.identity = name.sha256
    files = None
    try:
        stored.check_unchanged()  # llama.cpp opened the files by name, after they were checked
        for file in adapter_files:
            file.check_unchanged()
        # A GPU reads an instruction in milliseconds: storing its state would only take up space.
        if prefix_files and not backend.placement.n_gpu_layers:
            files = PrefixFiles(
                store.states,
                name.sha256,
                backend.circumstances,
                adapters={file.name: file.sha256 for file in adapter_files},
                unchanged=lambda: stored.unchanged,
            )
    except BaseException:
        backend.close()
        raise
    return LoadedModel(backend, name, envelope, calibrations, files, backend.placement, stored.tasks, loaded)
