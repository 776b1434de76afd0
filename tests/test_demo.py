"""The demo model: its weights are the known ones, and it is made once."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from ecellm_lite.convert.writer import BusyError
from ecellm_lite.demo import build
from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.models.store import Store, StoredModel


def test_it_is_made_once(demo_model: StoredModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "prepared", None)
    assert build.ensure_demo(Store()) == demo_model


def test_it_has_the_fast_type_and_its_origin(demo_model: StoredModel) -> None:
    header = read_header(demo_model.path)
    types = {tensor.name: tensor.type.name for tensor in header.tensors}
    assert types["blk.0.ffn_up.weight"] == build.FILE_TYPE
    assert demo_model.manifest.details["source_sha256"] == build.SHA256
    assert demo_model.manifest.licence.startswith("Apache-2.0")


def test_the_adapter_is_the_known_one_and_small(demo_model: StoredModel) -> None:
    weights = build.ADAPTER / "adapter_model.safetensors"
    assert sha256_of(weights) == build.ADAPTER_SHA256 == demo_model.manifest.details["adapter_sha256"]
    assert weights.stat().st_size < 12_000_000


def test_other_weights_are_refused(demo_model: StoredModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "SHA256", "0" * 64)
    with pytest.raises(ModelError, match="damaged or another version"):
        build.ensure_demo(Store(tmp_path))
    assert Store(tmp_path).names() == []


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(ModelError, match=r"pip install 'ecellm-lite\[demo\]'"):
        build.ensure_demo(Store(tmp_path))


def test_the_demo_waits_for_another_process_that_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, calls = Store(tmp_path), []
    folder = store.folder("demo")
    made = Manifest("demo", "model.gguf", 4, hashlib.sha256(b"GGUF").hexdigest(), "alpaca", build.RECIPE)

    def busy(_: Store, threads: int) -> StoredModel:
        calls.append(threads)
        if len(calls) == 2:
            folder.mkdir(parents=True)
            (folder / "model.gguf").write_bytes(b"GGUF")
            made.write(folder / "manifest.json")
        raise BusyError("Another conversion is writing it.")

    monkeypatch.setattr(build, "_made", busy)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert build.ensure_demo(store).manifest == made
    assert len(calls) == 2
    monkeypatch.setattr(build, "PATIENCE", 0.0)
    with pytest.raises(BusyError):
        build.ensure_demo(Store(tmp_path / "other"))
