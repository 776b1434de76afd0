"""Types of option values with a special format, such as DIR:0.5, PATTERN=TYPE, 1GiB or a,b."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import click

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


class GpuLayers(click.ParamType):  # type: ignore[type-arg]
    """`auto`, `all` or a number of layers."""

    name = "auto|all|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        """Return `auto`, `all`, or the number of layers."""
        if value in {"auto", "all"}:
            return str(value)
        if str(value).isdecimal():
            return int(value)
        return self.fail(f"{value!r} is not auto, all or a number of layers", param, ctx)


class Probability(click.FloatRange):
    """A number in a range. Refuses `nan`, which click's own FloatRange accepts."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the option's value as a number."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a probability from 0 to 1", param, ctx)
        return number


class Cores(click.ParamType):  # type: ignore[type-arg]
    """A number of cores, such as 4, or a list of cores, such as 0-3,8."""

    name = "N|LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | list[int]:
        """Return the number of cores, or the list of the cores' numbers."""
        if isinstance(value, int | list):
            return value
        if re.fullmatch("[1-9][0-9]{0,3}", value):
            return int(value)
        if not re.fullmatch(r"([0-9]{1,4}(-[0-9]{1,4})?(,|$))+", value):
            self.fail(f"{value!r} is neither a number of cores nor a list such as 0,2 or 2-3", param, ctx)
        cores: set[int] = set()
        for part in value.strip(",").split(","):
            first, _, last = part.partition("-")
            cores |= set(range(int(first), int(last or first) + 1))
        return sorted(cores)


class WeightedFolder(click.ParamType):  # type: ignore[type-arg]
    """An adapter's folder, optionally followed by a colon and a weight."""

    name = "folder[:weight]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Path, float]:
        """Return the adapter's path, and its weight in the merge (by default 1)."""
        if isinstance(value, tuple):
            return value
        folder, colon, weight = str(value).rpartition(":")
        if colon and not Path(value).exists():
            try:
                return Path(folder), float(weight)
            except ValueError:
                pass  # the colon is part of the path
        return Path(value), 1.0


class NamedAdapter(click.ParamType):  # type: ignore[type-arg]
    """NAME=FILE: an adapter's name in requests, and its file. Without NAME, the file's name is used."""

    name = "[name=]file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return the adapter's name and the path of its file."""
        if isinstance(value, tuple):
            return value
        name, equals, file = str(value).partition("=")
        if not equals or "/" in name or os.sep in name:  # a path may hold an equals sign
            name, file = Path(value).stem, str(value)
        if not name or not file:
            self.fail(f"{value!r} is not NAME=FILE, such as shop-a=shop-a.gguf", param, ctx)
        if os.path.exists(Path(file) / "adapter_config.json"):  # noqa: PTH110 - Path.exists raises for a long name
            step = f"convert BASE --lora {file} --adapter-only --output {name}.gguf"
            self.fail(f"{file} is a PEFT folder, not a GGUF file: make one by `{step}`", param, ctx)
        return name, file


class TensorTypeOverride(click.ParamType):  # type: ignore[type-arg]
    """PATTERN=TYPE: the quantization type of tensors whose names match a pattern."""

    name = "pattern=type"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split PATTERN=TYPE into the pattern and the type."""
        if isinstance(value, tuple):
            return value
        pattern, equals, kind = str(value).rpartition("=")
        if not equals or not pattern or not kind:
            self.fail(f"{value!r} is not PATTERN=TYPE, such as ffn_down=Q6_K", param, ctx)
        return pattern, kind


class TaskNames(click.ParamType):  # type: ignore[type-arg]
    """Names of tasks, separated by commas. Whether the tasks exist is checked when the model is converted."""

    name = "task,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the tasks' names as a tuple. An empty name is an error."""
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(","))
        if not all(names):
            self.fail(f"{value!r} has an empty name: give a list such as PM,SA", param, ctx)
        return names


class Size(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes, with or without a unit: 1GiB, 500MB, 4096."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return a size such as 500MB as a number of bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) *([kmg]i?|)b?", str(value).strip().lower())
        if not match:
            self.fail(f"{value!r} is not a size such as 1GiB", param, ctx)
        return int(float(match[1]) * _UNITS[match[2]])


class ReviewBelow(click.ParamType):  # type: ignore[type-arg]
    """The value of --review-below: a probability, or `auto`."""

    name = "P|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """Return `auto`, or the option's value as a probability."""
        if value == "auto":
            return "auto"
        try:
            probability = float(value)
        except ValueError:
            probability = -1.0
        if not 0 <= probability <= 1:
            self.fail(f"{value!r} is neither a probability, from 0 to 1, nor auto", param, ctx)
        return probability
