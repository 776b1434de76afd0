"""A fixture that writes task files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.own_tasks import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a file into a temporary folder and returns its path."""

    def write(text: str, name: str = "own.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write
