"""What a user can require of an attribute's values: how many there may be, of which type, and from which list."""

from __future__ import annotations

from dataclasses import dataclass

from ecellm_lite.answers.closed_values import ClosedValues
from ecellm_lite.answers.typed_values import Reader


@dataclass(frozen=True, slots=True)
class AttributeForm:
    """The form of an attribute's values.

    - `at_most`: how many values the attribute may have.
    - `reader`: reads each value as a number, a date or a quantity. It is None if the values are plain texts, and
      always None if there is a list of `values`.
    - `values`: the list of allowed values, or None if any value is allowed.
    """

    at_most: int = 1
    reader: Reader | None = None
    values: ClosedValues | None = None


PLAIN = AttributeForm()
