"""Expecting an error by its class, its place and the values that its message names, and not by its wording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ecellm_lite.errors import EcellmError


@contextmanager
def refusal(kind: type[EcellmError], *values: object, **place: object) -> Iterator[None]:
    """Expect an error of this class; `place` are its attributes (file, field, line, settings).

    Each of the values (a name, a number, a word of the input) must stand in the message or its step.
    """
    with pytest.raises(kind) as caught:
        yield
    error = caught.value
    assert {name: getattr(error, name) for name in place} == place, error
    assert [value for value in values if str(value) not in str(error)] == [], error
