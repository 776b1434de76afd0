"""Checks that a calibration belongs to one adapter: neither another adapter nor the base model alone uses it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ecellm_lite import ModelError, Runtime
from ecellm_lite.answers.answer import AdapterName
from ecellm_lite.engine.fake import FakeBackend, scattered
from ecellm_lite.loading import LoadedAdapter
from ecellm_lite.models.calibration_files import (
    calibration_folder,
    calibration_path,
    keep_calibration,
    remove_calibrations,
    stored_calibrations,
)
from ecellm_lite.models.calibrations import Calibration, Calibrations, read_calibration
from ecellm_lite.models.store import Store, StoredModel
from tests.support.calibrations import MODEL, REVIEW, calibration_of
from tests.support.refusals import refusal

TASK = "sentiment_analysis"
SHOPS = {"shop-a": "a" * 64, "shop-b": "b" * 64}


def of_shop(name: str, temperature: float = 2.0) -> Calibration:
    calibration = calibration_of(TASK, temperature)
    return replace(calibration, scope=replace(calibration.scope, adapter=SHOPS[name]))


def over(store: Store, model: StoredModel) -> Runtime:
    """Return a runtime over the fake engine with an adapter for each shop in SHOPS.

    Calibrations come from the store.
    """
    adapters: Mapping[str, LoadedAdapter] = {
        name: LoadedAdapter(
            replace(MODEL, adapter=AdapterName(name, sha256)),
            Calibrations(MODEL.sha256, "alpaca", calibration_folder(store, model, sha256), adapter=sha256),
        )
        for name, sha256 in SHOPS.items()
    }
    backend = FakeBackend(adapters=dict.fromkeys(SHOPS, scattered))
    own = Calibrations(MODEL.sha256, "alpaca", calibration_folder(store, model))
    return Runtime.over(backend, name=MODEL, calibrations=own, adapters=adapters)


def test_each_adapter_has_its_own_calibration(store: Store, model: StoredModel) -> None:
    model.manifest.write(model.path.with_name("manifest.json"))
    model.path.write_bytes(b"x")
    kept = [keep_calibration(store, model, each) for each in (of_shop("shop-a"), calibration_of(TASK))]
    assert kept[0] == calibration_path(store, model, TASK, SHOPS["shop-a"])
    assert kept[0] != kept[1] == calibration_path(store, model, TASK)
    with over(store, model) as runtime:
        names = {shop: runtime.answer(TASK, REVIEW, adapter=shop).calibration for shop in (None, *SHOPS)}
        assert names == {None: calibration_of(TASK).name, "shop-a": of_shop("shop-a").name, "shop-b": None}
        assert runtime.kept_calibration(TASK, adapter="shop-a") == of_shop("shop-a")
        assert runtime.kept_calibration(TASK, adapter="shop-b") is None
        assert {shop: runtime.uncalibrated(TASK, adapter=shop) for shop in SHOPS} == dict.fromkeys(SHOPS)
    assert stored_calibrations(store, MODEL.sha256, "alpaca", SHOPS["shop-a"]).get(TASK) == of_shop("shop-a")
    assert remove_calibrations(store, model, TASK, SHOPS["shop-a"]) == [TASK]
    assert [path.is_file() for path in kept] == [False, True]


@pytest.mark.parametrize("adapter", [None, "shop-b"])
def test_a_calibration_of_another_adapter_is_refused(
    adapter: str | None, store: Store, model: StoredModel, tmp_path: Path
) -> None:
    of_shop("shop-a").write(tmp_path / "named.json")
    with over(store, model) as runtime:
        assert runtime.answer(TASK, REVIEW, adapter="shop-a", calibration=tmp_path / "named.json").calibration
        with refusal(ModelError, "named.json", "aaaaaaaa"):
            runtime.answer(TASK, REVIEW, adapter=adapter, calibration=tmp_path / "named.json")
    calibration_of(TASK).write(tmp_path / "base.json")
    with over(store, model) as runtime, refusal(ModelError, "base.json"):
        runtime.answer(TASK, REVIEW, adapter="shop-a", calibration=tmp_path / "base.json")


def test_a_file_in_the_wrong_folder_is_not_used(store: Store, model: StoredModel) -> None:
    of_shop("shop-a").write(calibration_path(store, model, TASK, SHOPS["shop-b"]))
    with over(store, model) as runtime:
        assert runtime.answer(TASK, REVIEW, adapter="shop-b").calibration is None
        assert "bbbbbbbb" in str(runtime.uncalibrated(TASK, adapter="shop-b"))


def test_older_calibrations_without_an_adapter_are_read(tmp_path: Path) -> None:
    calibration = calibration_of(TASK)
    calibration.write(tmp_path / "new.json")
    document = json.loads((tmp_path / "new.json").read_text("utf-8"))
    del document["scope"]["adapter"]
    (tmp_path / "old.json").write_text(json.dumps(document), "utf-8")
    assert read_calibration(tmp_path / "old.json") == read_calibration(tmp_path / "new.json") == calibration
    facts = {name: value for name, value in document.items() if value is not None}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    assert digest[:8] in calibration.name
    assert calibration.name != of_shop("shop-a").name
