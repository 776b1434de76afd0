"""Tests of installed versions of a bundle after their programs have written into them, and after a rollback."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from ecellm_lite.bundle.install import install
from ecellm_lite.bundle.installation import Installation, find_installation
from ecellm_lite.bundle.launcher import HOME
from ecellm_lite.errors import ModelError
from ecellm_lite.models.calibration_files import keep_calibration, remove_calibrations
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.store import Store, StoredModel
from tests.support.bundles import Shop
from tests.support.calibrations import calibration_of
from tests.support.refusals import refusal
from tests.support.tiny_models import write_tiny_model


def calibrate(store: Store, temperature: float) -> Path:
    """Store a calibration of the store's only model, and return the calibration's path."""
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
    record = next((first.folder / HOME).rglob("pulled.sha256")).read_text("utf-8")
    assert record.split() == [hashlib.sha256(shipped).hexdigest(), "sentiment_analysis.json"]
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


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_an_own_task_changed_in_a_version_hinders_neither_deltas_nor_rollback(change: str, shop: Shop) -> None:
    trusted = [shop.key.public]
    old = shop.bundle("1.ecb", 1)
    first = install(old, trusted).version
    task = first.folder / HOME / "tasks" / "routing.toml"
    shipped = task.read_bytes()
    task.unlink()
    if change == "replaced":
        task.write_bytes(shipped + b"# another\n")
    second = install(shop.bundle("2.ecb", 2, since=old), trusted).version
    assert (second.folder / task.relative_to(first.folder)).read_bytes() == shipped
    assert find_installation("till").rollback() == first
    assert task.exists() == (change == "replaced")


def replace_model(store: Store, source: Path) -> StoredModel:
    """Replace the weights of the store's only model, as a pull does. The model keeps its name."""
    write_tiny_model(source, seed=5)
    manifest = store.load("tiny:F32").manifest
    return store.update(source, replace(manifest, size=source.stat().st_size, sha256=sha256_of(source)))


def test_installing_a_bundle_again_restores_its_own_tasks(shop: Shop) -> None:
    bundle, trusted = shop.bundle(), [shop.key.public]
    (install(bundle, trusted).version.folder / HOME / "tasks" / "routing.toml").unlink()
    install(bundle, trusted).version.check(own_model=True)


def test_installing_a_bundle_again_restores_its_model(shop: Shop, tmp_path: Path) -> None:
    trusted = [shop.key.public]
    bundle = shop.bundle("1.ecb", 1)
    first = install(bundle, trusted).version
    replace_model(Store(first.folder / HOME), tmp_path / "new.gguf")
    again = install(bundle, trusted).version
    assert again.folder != first.folder
    sha256 = shop.store.load("tiny:F32").manifest.sha256
    assert Store(again.folder / HOME).load("tiny:F32").manifest.sha256 == sha256
    assert install(bundle, trusted).version == again


def test_a_damaged_bundle_of_an_installed_version_is_refused(shop: Shop) -> None:
    bundle, trusted = shop.bundle(), [shop.key.public]
    first = install(bundle, trusted).version
    data = bundle.read_bytes()
    assert data.count(b"data\n") == 1
    bundle.write_bytes(data.replace(b"data\n", b"date\n"))
    with refusal(ModelError, bundle.name, "data file.txt"):
        install(bundle, trusted)
    assert find_installation("till").current() == first


def test_a_model_pulled_into_a_version_does_not_hinder_a_rollback(shop: Shop, tmp_path: Path) -> None:
    trusted = [shop.key.public]
    first = install(shop.bundle("1.ecb", 1), trusted).version
    model = replace_model(Store(first.folder / HOME), tmp_path / "new.gguf")
    install(shop.bundle("2.ecb", 2), trusted)
    assert find_installation("till").rollback() == first
    data = bytearray(model.path.read_bytes())
    data[-1] ^= 1
    model.path.write_bytes(data)
    with pytest.raises(ModelError):
        first.check()


def serials() -> list[int]:
    return [version.index.serial for version in find_installation("till").versions()]


def test_a_delta_of_a_version_that_was_rolled_back_from_is_installed(shop: Shop) -> None:
    trusted = [shop.key.public]
    bundles: list[Path] = []
    for serial in (1, 2, 3):
        shop.say(str(serial))
        bundles.append(shop.bundle(f"{serial}.ecb", serial, **({"since": bundles[-1]} if bundles else {})))
    for bundle in bundles[:2]:
        install(bundle, trusted)
    installation = find_installation("till")
    installation.rollback()
    shop.say("another")
    (shop.folder / "program" / "ecellm-lite").write_text("#!/bin/sh\nexit 3\n", "utf-8")
    with pytest.raises(ModelError):
        install(shop.bundle("bad.ecb", 3), trusted)
    assert serials() == [1, 2]
    install(bundles[2], trusted)
    assert serials() == [1, 3]
    assert installation.rollback().index.serial == 1


def test_a_kill_before_the_pruning_does_not_change_the_previous_version(shop: Shop) -> None:
    trusted = [shop.key.public]
    for serial in (1, 2):
        install(shop.bundle(f"{serial}.ecb", serial), trusted)
    installation = find_installation("till")
    installation.rollback()
    switch = Installation.switch

    def killed(self: Installation, version: Path) -> None:
        switch(self, version)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Installation, "switch", killed)
        install(shop.bundle("3.ecb", 3), trusted)
    assert installation.rollback().index.serial == 1


def test_versions_without_an_index_are_removed_and_not_in_the_way(shop: Shop) -> None:
    trusted = [shop.key.public]
    first, second = (install(shop.bundle(f"{serial}.ecb", serial), trusted).version for serial in (1, 2))
    (second.folder / "index.json").write_text("{", "utf-8")
    (second.folder.parent / "1-000000000000").mkdir()
    installation = find_installation(None)
    assert installation.rollback() == first
    install(shop.bundle("3.ecb", 3), trusted)
    assert sorted(path.name for path in installation.versions_folder.iterdir()) == [
        first.folder.name,
        installation.current().folder.name,  # type: ignore[union-attr]
    ]
