"""The settings that a model is loaded with: what the caller gave, then what was measured here, then the defaults."""

from __future__ import annotations

from typing import Any

from ecellm_lite.engine.settings import Settings, available_cores
from ecellm_lite.errors import ModelError
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.models.tuning import Tuning, read_tuning, this_machine, tuning_path

# Measured together: a memory in 8 bits cannot be without flash attention, so one is not taken without the other.
_TOGETHER = {"flash_attention", "kv_type"}


def tuned_settings(store: Store, model: StoredModel, **given: Any) -> Settings:
    """Return the Settings of what is given (None: not given), with this machine's tuning of the model as defaults.

    Deterministic settings take nothing from a tuning: what a row is answered must not change because somebody
    measured. A damaged tuning is left alone; `doctor` tells of it. Raises UsageError for settings that do not fit.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    tuning = None if chosen.get("deterministic") else find_tuning(store, model)
    if tuning and tuning.gpu_layers == chosen.get("gpu_layers", "auto"):
        left_out = _TOGETHER if _TOGETHER & chosen.keys() else set()
        chosen = {**{name: value for name, value in tuning.settings.items() if name not in left_out}, **chosen}
    return Settings(**chosen)


def find_tuning(store: Store, model: StoredModel) -> Tuning | None:
    """Return the tuning of a model on this machine, or None."""
    try:
        tuning = read_tuning(tuning_path(store, model))
    except ModelError:
        return None
    holds = tuning and tuning.holds(model.manifest.sha256, this_machine(available_cores()))
    return tuning if holds else None
