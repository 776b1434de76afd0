"""Reads an adapter's adapter_config.json, which has the scale of each module's factors.

The product of the factors is multiplied by the scale before it is added to a matrix. If a setting cannot be merged
exactly, the adapter is refused. A merge without the setting would give a model that nobody trained. PEFT's LoraConfig
defines the settings (https://github.com/huggingface/peft).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecellm_lite.convert.module_patterns import ModulePatterns
from ecellm_lite.convert.reading import damaged, read_json
from ecellm_lite.errors import ModelError

_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

# Settings that cannot be merged, with the values that are harmless.
_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "fan_in_fan_out": (False, None),
    "lora_bias": (False, None),
    "use_qalora": (False, None),
    "use_bdlora": (False, None),
    "layer_replication": (None,),
    "target_parameters": (None, [], ()),
    "trainable_token_indices": (None, [], {}),
    "alora_invocation_tokens": (None, []),
    "ensure_weight_tying": (False, None),
    "bias": ("none", None),
}

# Initializations that move a part of the base into the adapter, which then fits only a base changed in the same way.
_MOVING = ("pissa", "olora", "corda", "loftq", "lora_ga")

# Settings that choose modules other than by the names in target_modules.
_CHOOSING = ("layers_to_transform", "layers_pattern", "exclude_modules")


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """The settings in an adapter's configuration.

    - `targets`: endings of module names, such as `q_proj`. Modules with these endings have factors, in every layer.
      `targets` is empty if the configuration chooses modules in another way.
    - `dora`: whether each module has a DoRA magnitude in addition to its factors.
    """

    path: Path
    base_model: str
    targets: tuple[str, ...]
    dora: bool
    _rslora: bool
    _ranks: ModulePatterns
    _alphas: ModulePatterns
    _rank: Any
    _alpha: Any

    def check_work(self, modules: Iterable[str]) -> None:
        """Raise ModelError if looking up the rank and alpha of these modules could take too long.

        A hostile configuration may have very many patterns, and each module is compared with each pattern.
        """
        try:
            for patterns in (self._ranks, self._alphas):
                patterns.check_work(modules)
        except ValueError as error:
            raise self._refused(str(error), step="use fewer keys, or merge the adapter with peft") from None

    def scale(self, module: str, rank: int) -> float:
        """Return the number by which the product of a module's factors is multiplied, such as alpha / rank.

        `rank`: the rank of the module's factors. Raises ModelError if the configuration gives the module another rank,
        or if the scale cannot be used (see is_scale).
        """
        configured = self._ranks.value(module, self._rank)
        if type(configured) is not int or configured != rank or rank < 1:
            raise damaged(self.path, f"sets the rank of {module!r} to {repr(configured)[:40]}, but it is {rank}")
        alpha = self._alphas.value(module, self._alpha)
        scale = _quotient(alpha, math.sqrt(rank) if self._rslora else rank)
        if not is_scale(scale):
            raise damaged(self.path, f"sets the alpha of {module!r} to {repr(alpha)[:40]}, which gives no usable scale")
        return scale

    def _refused(self, problem: str, step: str) -> ModelError:
        return ModelError(f"{self.path}: {problem}", step=step, file=str(self.path))


def read_settings(path: Path) -> AdapterSettings:
    """Read an adapter_config.json. Raises ModelError if the adapter cannot be merged exactly."""
    config = read_json(path)
    _check(config, path)
    patterns = []
    for name in ("rank_pattern", "alpha_pattern"):
        values = config.get(name) or {}
        if not isinstance(values, dict):
            raise damaged(path, f"has {name} = {str(values)[:80]}, which is not an object")
        try:
            patterns.append(ModulePatterns(values, name))
        except ValueError as error:
            raise ModelError(
                f"{path}: {error}", step="name the modules in simpler words", file=str(path), field=name
            ) from None
    targets = config.get("target_modules")
    if not isinstance(targets, list) or any(config.get(name) not in (None, [], "") for name in _CHOOSING):
        targets = []
    return AdapterSettings(
        path,
        base_model=str(config.get("base_model_name_or_path") or ""),
        targets=tuple(name for name in targets if isinstance(name, str) and name),
        dora=bool(config.get("use_dora")),
        _rslora=bool(config.get("use_rslora")),
        _ranks=patterns[0],
        _alphas=patterns[1],
        _rank=config.get("r"),
        _alpha=config.get("lora_alpha"),
    )


def is_scale(scale: float) -> bool:
    """Return whether a scale can be used: it is not 0, and float32 can represent it."""
    return _SMALLEST <= abs(scale) <= _LARGEST


def _check(config: Mapping[str, Any], path: Path) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ModelError(
            f"{path} describes an adapter of the type {str(kind)[:40]!r}",
            step="give a LoRA adapter, rsLoRA and DoRA included",
            file=str(path),
            field="peft_type",
        )
    for name, harmless in _REFUSED.items():
        if config.get(name) not in harmless:
            raise ModelError(
                f"{path}: {name} is {str(config[name])[:80]}, which cannot be merged here",
                step="merge the adapter with peft",
                file=str(path),
                field=name,
            )
    initialization = config.get("init_lora_weights", True)
    if isinstance(initialization, str) and initialization.lower().startswith(_MOVING):
        raise ModelError(
            f"{path}: init_lora_weights is {initialization[:40]!r}, which moved a part of the base into the adapter",
            step="save it as plain LoRA, with peft's path_initial_model_for_weight_conversion",
            file=str(path),
            field="init_lora_weights",
        )


def _quotient(alpha: object, divisor: float) -> float:
    """Return alpha / divisor, or 0 if alpha is not a number or too large for a float."""
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool):
        return 0.0
    try:
        return float(alpha) / divisor
    except OverflowError:
        return 0.0
