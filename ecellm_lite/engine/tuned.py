"""Chooses the settings that a model is loaded with.

The caller's settings come first, then this machine's tuning, then the defaults.
"""

from __future__ import annotations

from typing import Any

from ecellm_lite.engine.settings import Settings, available_cores
from ecellm_lite.errors import ModelError
from ecellm_lite.kernels import prompt
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.models.tuning import Tuning, read_tuning, this_machine, tuning_path

# These were measured together, and an 8-bit KV memory needs flash attention: use both from the tuning or neither.
_TOGETHER = {"flash_attention", "kv_type"}


def tuned_settings(store: Store, model: StoredModel, **options: Any) -> Settings:
    """Return the settings to load a model with: the caller's, then this machine's tuned values, then the defaults.

    `options`: the caller's settings. If `prompt_kernels` is `auto`, the tuned value is used, unless the environment
      variable ECELLM_PROMPT_KERNELS is set.

    In deterministic mode, the tuned values are not used, because they could change answers. Tuned values that were
    measured with other `gpu_layers` are not used either. A damaged tuning file is ignored (`doctor` reports it). Raises
    UsageError for invalid settings.
    """
    settings = {name: value for name, value in options.items() if value is not None}
    if prompt.is_set():
        settings.setdefault("prompt_kernels", "auto")
    elif settings.get("prompt_kernels") == "auto":
        del settings["prompt_kernels"]
    tuning = None if settings.get("deterministic") else find_tuning(store, model)
    if tuning and tuning.gpu_layers == settings.get("gpu_layers", "auto"):
        left_out = _TOGETHER if _TOGETHER & settings.keys() else set()
        settings = {**{name: value for name, value in tuning.settings.items() if name not in left_out}, **settings}
    return Settings(**settings)


def find_tuning(store: Store, model: StoredModel) -> Tuning | None:
    """Return the tuning (the fastest settings) of a model on this machine, or None."""
    try:
        tuning = read_tuning(tuning_path(store, model))
    except ModelError:
        return None
    holds = tuning and tuning.holds(model.manifest.sha256, this_machine(available_cores()))
    return tuning if holds else None
