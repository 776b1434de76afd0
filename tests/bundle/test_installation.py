"""Tests what happens to the installed versions when their programs write into them, and after a rollback."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ecellm_lite.bundle.install import install
from ecellm_lite.bundle.installation import find_installation
from ecellm_lite.bundle.launcher import HOME
from ecellm_lite.errors import ModelError
from ecellm_lite.models.calibration_files import keep_calibration, remove_calibrations
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.store import Store
from tests.support.bundles import Shop
from tests.support.calibrations import calibration_of
from tests.support.tiny_models import write_tiny_model


def calibrate(store: Store, temperature: float) -> Path:
    """Store a calibration of the only model of a store, and return its path."""
    model = store.load("tiny:F32")
    fitted = calibration_of("sentiment_analysis", temperature)
    scope = replace(fitted.scope, model=model.manifest.sha256)
    return keep_calibration(store, model, replace(fitted, scope=scope))


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_a_calibration_made_in_a_version_hinders_neither_deltas_nor_rollback(change: str, shop: Shop) -> None:
    trusted = [shop.key.public]
    shipped = calibrate(shop.store, 2.0).read_bytes()
    old = shop.bundle("1.ecb", 1)
    first = install(old, trusted).version
    store = Store(first.folder / HOME)
    calibration = calibrate(store, 3.0)
    if change == "removed":
        remove_calibrations(store, store.load("tiny:F32"))
    after = calibration.read_bytes() if calibration.exists() else None
    shop.say("two")
    second = install(shop.bundle("2.ecb", 2, since=old), trusted).version
    assert (second.folder / calibration.relative_to(first.folder)).read_bytes() == shipped
    second.check()
    assert find_installation("till").rollback() == first
    assert (calibration.read_bytes() if calibration.exists() else None) == after
    calibration.write_text("{", "utf-8")
    with pytest.raises(ModelError):
        first.check()


def test_a_model_pulled_into_a_version_does_not_hinder_a_rollback(shop: Shop, tmp_path: Path) -> None:
    trusted = [shop.key.public]
    first = install(shop.bundle("1.ecb", 1), trusted).version
    store = Store(first.folder / HOME)
    source = write_tiny_model(tmp_path / "new.gguf", seed=5)
    manifest = store.load("tiny:F32").manifest
    manifest = replace(manifest, size=source.stat().st_size, sha256=sha256_of(source))
    model = store.update(source, manifest)
    install(shop.bundle("2.ecb", 2), trusted)
    assert find_installation("till").rollback() == first
    data = bytearray(model.path.read_bytes())
    data[-1] ^= 1
    model.path.write_bytes(data)
    with pytest.raises(ModelError):
        first.check()
