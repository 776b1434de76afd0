"""The type of a column that a job adds."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """The type of a column that a job adds.

    An estimate is a number that the model computes, such as a probability. Its last digits mean nothing to people.
    """

    TEXT = "text"
    NUMBER = "number"
    ESTIMATE = "estimate"
    TRUTH = "truth"
