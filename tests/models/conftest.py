"""Fixtures: a store with one model. The model's file has no real content, because no test opens it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecellm_lite.models.manifest import Manifest
from ecellm_lite.models.store import Store, StoredModel
from tests.support.calibrations import SHA256


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def model(store: Store) -> StoredModel:
    return StoredModel(store.folder("shop") / "model.gguf", Manifest("shop", "model.gguf", 1, SHA256, "alpaca", ""))
