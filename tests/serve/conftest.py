"""A fixture: one server for all tests that do not change its state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.serve.serving import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    from tests.serve.serving import serving  # which skips the tests where the extra is missing

    with serving() as served:
        yield served
