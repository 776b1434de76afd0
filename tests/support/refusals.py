"""Checks an error by its class, its attributes and the values in its text. The wording itself is not checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ecellm_lite.errors import EcellmError


@contextmanager
def refusal(kind: type[EcellmError], *values: object, **place: object) -> Iterator[None]:
    """Check that the `with` block raises an error of this class.

    `place`: attributes that the error must have (file, field, line, settings).
    `values`: names, numbers or words that its text must contain. The text is the message and the advice (`step`).
    """
    with pytest.raises(kind) as caught:
        yield
    error = caught.value
    assert {name: getattr(error, name) for name in place} == place, error
    assert [value for value in values if str(value) not in str(error)] == [], error
