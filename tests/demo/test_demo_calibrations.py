"""Checks that the demo comes with calibrations, and that installing them respects what the user changed.

A calibration of the user's own is not replaced, and one that the user removed is not installed again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ecellm_lite import Runtime
from ecellm_lite.demo import calibrations as module
from ecellm_lite.demo.build import ensure_demo
from ecellm_lite.demo.calibrations import MODEL_SHA256, RECORD, SHIPPED, install_calibrations
from ecellm_lite.models.calibration_files import calibration_folder, calibration_path
from ecellm_lite.models.calibration_scope import text_hash
from ecellm_lite.models.calibrations import Calibration, read_calibration
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.tasks.registry import TASKS

FILES = sorted(path.name for path in SHIPPED.glob("*.json"))
TASK = "sentiment_analysis"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def model(store: Store) -> StoredModel:
    """Return a model whose manifest has the sha256 of the demo model that the calibrations were fitted to."""
    manifest = Manifest("demo", "model.gguf", 4, MODEL_SHA256, "alpaca", "")
    return StoredModel(store.folder("demo") / "model.gguf", manifest)


def shipped(task: str = TASK) -> Calibration:
    calibration = read_calibration(SHIPPED / f"{task}.json")
    assert calibration is not None
    return calibration


def test_the_shipped_calibrations_are_for_the_current_demo(demo_model: StoredModel) -> None:
    assert FILES
    assert demo_model.manifest.sha256 == MODEL_SHA256
    for name in FILES:
        task = TASKS[name.removesuffix(".json")]
        scope = shipped(task.name).scope
        question = task.question(task.example())
        assert (scope.task, scope.type, scope.envelope) == (task.name, question.space.type, "alpaca")
        assert (scope.model, scope.instruction) == (MODEL_SHA256, text_hash(task.instruction))
        assert scope.options in (None, text_hash(str(question.options)))


def test_the_demo_is_calibrated_from_the_start(demo_model: StoredModel) -> None:
    with Runtime("demo", threads=1) as runtime:
        answer = runtime.answer(TASK, {"review": "It is a mug."})
    assert answer.calibration == shipped().name
    assert answer.probability is not None
    assert answer.probability < 0.8


def test_a_demo_of_an_earlier_version_gets_the_calibrations(store: Store, model: StoredModel) -> None:
    install_calibrations(store, model)
    folder = calibration_folder(store, model)
    assert sorted(path.name for path in folder.glob("*.json")) == FILES
    assert all((folder / name).read_bytes() == (SHIPPED / name).read_bytes() for name in FILES)


@pytest.mark.parametrize("earlier", [True, False], ids=["fitted after", "fitted before"])
def test_a_users_own_calibration_is_kept(earlier: bool, store: Store, model: StoredModel) -> None:
    if earlier:
        install_calibrations(store, model)
    own = replace(shipped(), temperature=1.25, data="mine.jsonl")
    path = calibration_path(store, model, TASK)
    own.write(path)
    install_calibrations(store, model)
    assert read_calibration(path) == own
    assert sorted(file.name for file in path.parent.glob("*.json")) == FILES


def test_a_removed_calibration_is_not_installed_again(store: Store, model: StoredModel) -> None:
    install_calibrations(store, model)
    path = calibration_path(store, model, TASK)
    path.unlink()
    install_calibrations(store, model)
    assert not path.exists()


def test_a_later_version_replaces_only_shipped_calibrations(
    store: Store, model: StoredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_calibrations(store, model)
    folder = calibration_folder(store, model)
    own = replace(shipped("attribute_value_extraction"), temperature=1.25)
    own.write(folder / "attribute_value_extraction.json")
    later = replace(shipped(), temperature=2.5)
    for task in (TASK, "attribute_value_extraction"):
        replace(shipped(task), temperature=2.5).write(tmp_path / "later" / f"{task}.json")
    monkeypatch.setattr(module, "SHIPPED", tmp_path / "later")
    install_calibrations(store, model)
    assert read_calibration(folder / f"{TASK}.json") == later
    assert read_calibration(folder / "attribute_value_extraction.json") == own
    assert sorted(path.name for path in folder.glob("*.json")) == ["attribute_value_extraction.json", f"{TASK}.json"]


def test_a_calibration_of_an_older_demo_is_replaced(store: Store, model: StoredModel) -> None:
    old = replace(shipped(), scope=replace(shipped().scope, model="0" * 64))
    path = calibration_path(store, model, TASK)
    old.write(path)
    install_calibrations(store, model)
    assert read_calibration(path) == shipped()


def test_another_model_gets_no_calibrations(store: Store, model: StoredModel) -> None:
    install_calibrations(store, replace(model, manifest=replace(model.manifest, sha256="0" * 64)))
    assert not calibration_folder(store, model).exists()


@pytest.mark.parametrize("record", [b"", b"\xff", b"nonsense\n../../x\n", b"0  ../../x\n0  ../model.gguf\n"])
def test_a_damaged_record_never_costs_a_users_calibration(record: bytes, store: Store, model: StoredModel) -> None:
    install_calibrations(store, model)
    folder = calibration_folder(store, model)
    own = replace(shipped(), temperature=1.25)
    own.write(folder / f"{TASK}.json")
    (folder / RECORD).write_bytes(record)
    install_calibrations(store, model)
    assert read_calibration(folder / f"{TASK}.json") == own
    assert "../" not in (folder / RECORD).read_text()


def test_an_unwritable_store_is_used_unchanged(
    store: Store, model: StoredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = calibration_folder(store, model)
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where a folder should be")
    install_calibrations(store, model)
    assert folder.is_file()


def test_the_demo_in_the_store_has_the_calibrations(demo_model: StoredModel) -> None:
    ensure_demo(Store())
    folder = calibration_folder(Store(), demo_model)
    assert {*FILES} <= {path.name for path in folder.iterdir()}
