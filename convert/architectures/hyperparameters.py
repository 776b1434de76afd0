"""A checkpoint's configuration, read as hostile input: every value is of its type and within reason, or is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ecellm_lite.errors import ModelError

MAX_COUNT = (1 << 31) - 1  # llama.cpp keeps counts as 32-bit numbers


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The values of a config.json by name; a name that is absent or null takes the default, where there is one."""

    values: Mapping[str, Any]

    def count(self, name: str, default: int | None = None, most: int = MAX_COUNT) -> int:
        """Return a whole number from 1 to `most`."""
        value = self._value(name, default)
        if type(value) is not int or not 1 <= value <= most:
            raise _wrong(name, value, f"a whole number from 1 to {most:,} is wanted")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Return a finite number above 0."""
        value = self._value(name, default)
        if type(value) is int and abs(value) > MAX_COUNT:
            raise _wrong(name, value, "a number within reason is wanted")
        if type(value) not in {int, float} or not math.isfinite(value) or value <= 0:
            raise _wrong(name, value, "a number above 0 is wanted")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Return a truth value."""
        value = self._value(name, default)
        if type(value) is not bool:
            raise _wrong(name, value, "true or false is wanted")
        return value

    def one_of(self, name: str, known: tuple[str, ...], default: str) -> str:
        """Return one of the texts that are known."""
        value = self._value(name, default)
        if not isinstance(value, str) or value not in known:
            raise _wrong(name, value, f"llama.cpp computes it only for {' or '.join(known)}")
        return value

    def part(self, name: str) -> Hyperparameters:
        """Return the object in the configuration of that name; an absent one is empty."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, dict):
            raise _wrong(name, value, "an object is wanted")
        return Hyperparameters(value or {})

    def refuse(self, name: str, why: str) -> None:
        """Raise ModelError where the value is there, and neither null nor false."""
        value = self.values.get(name)
        if value is not None and value is not False:
            raise _wrong(name, value, why)

    def _value(self, name: str, default: Any) -> Any:
        value = self.values.get(name)
        if value is None and default is None:
            raise ModelError(f"The config.json has no {name!r}: get the checkpoint again.")
        return default if value is None else value


def rope_parameters(config: Hyperparameters) -> Hyperparameters:
    """Return what the configuration says of its rotary embedding, by the names of transformers from version 5 on.

    Before, `rope_theta` and `partial_rotary_factor` stood at the top, and the rest in `rope_scaling` with its `type`.
    """
    said = config.part("rope_parameters").values or config.part("rope_scaling").values
    merged = {name: config.values[name] for name in ("rope_theta", "partial_rotary_factor") if name in config.values}
    merged.update(said)
    if "rope_type" not in merged and "type" in merged:
        merged["rope_type"] = merged["type"]
    return Hyperparameters(merged)


def _wrong(name: str, value: Any, why: str) -> ModelError:
    shown = repr(value)[:60] if not isinstance(value, int) or abs(value) < 1 << 64 else "a huge number"
    return ModelError(f"The config.json has {name} = {shown}: {why}.")
