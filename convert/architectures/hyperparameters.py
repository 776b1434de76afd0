"""Reads a checkpoint's config.json as untrusted input. A value of the wrong type or out of range is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ecellm_lite.errors import ModelError

MAX_COUNT = (1 << 31) - 1  # llama.cpp keeps counts as 32-bit numbers


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The values of a config.json by name. An absent or null value is replaced by the default, if there is one.

    Every method raises ModelError for a value that it does not accept.
    """

    values: Mapping[str, Any]

    def count(self, name: str, default: int | None = None, most: int = MAX_COUNT) -> int:
        """Return the setting `name`, which must be a whole number from 1 to `most`."""
        value = self._value(name, default)
        if type(value) is not int or not 1 <= value <= most:
            raise _wrong(name, value, f"it must be a whole number from 1 to {most:,}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Return the setting `name`, which must be a finite number above 0."""
        value = self._value(name, default)
        if type(value) is int and abs(value) > MAX_COUNT:
            raise _wrong(name, value, f"it must be at most {MAX_COUNT:,}")
        if type(value) not in {int, float} or not math.isfinite(value) or value <= 0:
            raise _wrong(name, value, "it must be a number above 0")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Return the setting `name`, which must be true or false. Return `default` if the setting is missing."""
        value = self._value(name, default)
        if type(value) is not bool:
            raise _wrong(name, value, "it must be true or false")
        return value

    def one_of(self, name: str, choices: tuple[str, ...], default: str) -> str:
        """Return the setting `name`, which must be one of the texts `choices`."""
        value = self._value(name, default)
        if not isinstance(value, str) or value not in choices:
            raise _wrong(name, value, f"llama.cpp supports only {' or '.join(choices)}")
        return value

    def part(self, name: str) -> Hyperparameters:
        """Return the setting `name`, which must be an object. If the setting is missing, return an empty object."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, dict):
            raise _wrong(name, value, "it must be an object")
        return Hyperparameters(value or {})

    def refuse(self, name: str, reason: str) -> None:
        """Raise ModelError with the given reason, unless the setting `name` is missing, null or false."""
        value = self.values.get(name)
        if value is not None and value is not False:
            raise _wrong(name, value, reason)

    def _value(self, name: str, default: Any) -> Any:
        value = self.values.get(name)
        if value is None and default is None:
            raise ModelError(f"The config.json has no {name!r}", step="download the checkpoint again", field=name)
        return default if value is None else value


def rope_parameters(config: Hyperparameters) -> Hyperparameters:
    """Return the parameters of the rotary position embedding, by the names that transformers 5 uses.

    Older versions of transformers have `rope_theta` and `partial_rotary_factor` at the top level of config.json, and
    the other parameters under `rope_scaling`. Some of these versions write `type` instead of `rope_type`.
    """
    parameters = {
        name: config.values[name] for name in ("rope_theta", "partial_rotary_factor") if name in config.values
    }
    parameters.update(config.part("rope_parameters").values or config.part("rope_scaling").values)
    if parameters.get("rope_type") is None and "type" in parameters:
        parameters["rope_type"] = parameters["type"]
    return Hyperparameters(parameters)


def refuse_windows(config: Hyperparameters) -> None:
    """Raise ModelError for a model with sliding-window attention.

    Call this for an architecture for which llama.cpp supports only full attention.
    """
    config.refuse("use_sliding_window", "llama.cpp has no sliding window for this architecture")
    kinds = config.values.get("layer_types")
    if kinds is not None and (not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds)):
        raise _wrong("layer_types", kinds, "llama.cpp has only full attention for this architecture")


def unsupported(problem: str, field: str) -> ModelError:
    """Return the error for a configuration that is not supported.

    If `problem` is "has no layers", the message is "The config.json has no layers".
    """
    return ModelError(f"The config.json {problem}", step="give another checkpoint", field=field)


def _wrong(name: str, value: Any, reason: str) -> ModelError:
    shown = repr(value)[:60] if not isinstance(value, int) or abs(value) < 1 << 64 else "a huge number"
    return unsupported(f"has {name} = {shown}, but {reason}", name)
