"""A fixture for the tests of `doctor`: a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny_models import write_tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny model of six layers and an output layer."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", layers=6, context=2048)
