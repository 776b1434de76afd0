"""The type of a column that a job adds."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """The type of a column that a job adds."""

    TEXT = "text"
    NUMBER = "number"
    TRUTH = "truth"
