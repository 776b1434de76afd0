"""Checks an error by its class, its place and the values that it names, not by its wording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ecellm_lite.errors import EcellmError


@contextmanager
def refusal(kind: type[EcellmError], *values: object, **place: object) -> Iterator[None]:
    """Expect an error of this class. `place` has attributes that it must have (file, field, line, settings).

    The message or the step must contain each of the values (a name, a number, a word of the input).
    """
    with pytest.raises(kind) as caught:
        yield
    error = caught.value
    assert {name: getattr(error, name) for name in place} == place, error
    assert [value for value in values if str(value) not in str(error)] == [], error
