"""Counts the correct values of attributes with a type: a number, a date, a quantity, or an id from a closed list.

Gold values are normalized in the same way as the model's. So the gold value `20 lb` equals the model's `20-lb.` and
`9.07 kg`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.space import Space

# How far quantities may differ: people round what they convert to another unit.
TOLERANCE = 1e-3


def typed_counts(space: Space, gold: str, value: Sequence[Mapping[str, Any]] | None) -> tuple[int, int]:
    """Return two counts of the gold answer's typed values: those that the model's answer has too, and all of them.

    `value`: the entries of the model's answer. A gold value that cannot be read is not counted.
    """
    if not isinstance(space, Extraction) or not space.forms:
        return 0, 0
    wanted = [(entry["attribute"], typed) for entry in space.value_of(gold) if (typed := _typed(entry)) is not None]
    answered = [(entry["attribute"], _typed(entry)) for entry in value or ()]
    right = sum(any(name == other and _same(typed, got) for other, got in answered) for name, typed in wanted)
    return right, len(wanted)


def _typed(entry: Mapping[str, Any]) -> Any:
    return entry.get("id", entry.get("normalized"))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(math.isclose(one[end], other[end], rel_tol=TOLERANCE) for end in ("least", "most"))
    return bool(one == other)
