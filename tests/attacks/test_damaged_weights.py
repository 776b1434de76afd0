"""Tests a model whose weights are damaged and later repaired.

A saved state is what the model computed for an instruction. A state that was saved while the weights were damaged must
not be used after the repair.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ecellm_lite import Answer, ModelError, Runtime
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.store import Store
from tests.support.refusals import refusal
from tests.support.tiny_models import write_tiny_model

ROW = {"review": "Works, but it is loud."}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ECELLM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def good(tmp_path: Path, home: Path) -> Path:
    return write_tiny_model(tmp_path / "good.gguf", context=2048, layers=2)


def answer(model: str | Path, *, prefix_files: bool = True) -> Answer:
    with Runtime(model, envelope="alpaca", prefix_files=prefix_files) as runtime:
        return runtime.answer("sentiment_analysis", ROW)


def damage(path: Path) -> None:
    """Overwrite 4 KiB of the first layer's weights with zeros. The file's times stay the same."""
    tensor = next(tensor for tensor in read_header(path).tensors if tensor.name == "blk.0.ffn_up.weight")
    in_its_place(path, lambda data: data[: tensor.offset] + bytes(4096) + data[tensor.offset + 4096 :])


def in_its_place(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Overwrite a file with changed data. Its size, inode and modification time stay the same."""
    status = path.stat()
    data = change(path.read_bytes())
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


def states(home: Path) -> dict[str, int]:
    """Return the number of saved states on disk for each model, by the model's SHA-256."""
    return {folder.name: len(list(folder.iterdir())) for folder in (home / "prefixes").glob("*")}


def test_a_repaired_file_does_not_use_states_of_the_damaged_one(good: Path, home: Path, tmp_path: Path) -> None:
    right = answer(good, prefix_files=False)
    path = tmp_path / "model.gguf"
    shutil.copyfile(good, path)
    damage(path)
    wrong = answer(path)
    assert wrong.probabilities != right.probabilities
    assert wrong.model.sha256 == sha256_of(path) != sha256_of(good)
    assert states(home) == {sha256_of(path): 1}
    in_its_place(path, lambda _: good.read_bytes())
    for cached in (False, True):
        mended = answer(path)
        assert mended.probabilities == pytest.approx(right.probabilities, abs=1e-3)
        assert mended.model.sha256 == sha256_of(good)
        assert mended.usage
        assert bool(mended.usage.cached_tokens) == cached
    assert states(home) == {sha256_of(good): 1}, "what the damaged weights left is gone"


def test_a_repaired_stored_model_does_not_use_states_of_the_damaged_one(good: Path, home: Path) -> None:
    right = answer(good, prefix_files=False)
    path = Store().add(good, "shop", "alpaca").path
    damage(path)
    with refusal(ModelError, "'shop'", sha256_of(path), exit_code=4):
        answer("shop")
    assert states(home) == {}
    in_its_place(path, lambda _: good.read_bytes())
    for _ in range(2):
        assert answer("shop").probabilities == pytest.approx(right.probabilities, abs=1e-3)
    assert answer("shop").model.sha256 == sha256_of(good)


def test_a_model_added_again_does_not_use_old_states(good: Path, home: Path) -> None:
    right = answer(good, prefix_files=False)
    store = Store()
    path = store.add(good, "shop", "alpaca").path
    damage(path)
    answer(path)  # a model given by its path is not checked against a manifest
    store.remove("shop")
    assert states(home) == {}, "what a model left goes with it"
    store.add(good, "shop", "alpaca")
    assert answer("shop").probabilities == pytest.approx(right.probabilities, abs=1e-3)
    assert states(home) == {sha256_of(good): 1}
    store.remove("shop")
    assert states(home) == {}


def test_a_model_under_the_same_name_does_not_use_the_old_models_states(good: Path, home: Path, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other.gguf", context=2048, layers=2, seed=1)
    right = [answer(path, prefix_files=False).probabilities for path in (good, other)]
    path = tmp_path / "model.gguf"
    for source, probabilities in zip((good, other), right, strict=True):
        shutil.copyfile(source, path)
        for _ in range(2):
            assert answer(path).probabilities == pytest.approx(probabilities, abs=1e-3)
        assert states(home) == {sha256_of(source): 1}


def test_no_state_is_saved_when_weights_change_while_in_use(good: Path, home: Path, tmp_path: Path) -> None:
    """llama.cpp maps the file into memory, so a change to the file also changes the model in use."""
    path = tmp_path / "model.gguf"
    shutil.copyfile(good, path)
    with Runtime(path, envelope="alpaca") as runtime:
        damage(path)
        runtime.answer("sentiment_analysis", ROW)
    assert states(home).get(sha256_of(good), 0) == 0


def test_a_file_changed_between_hashing_and_loading_is_noticed(
    good: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ecellm_lite.engine import llama
    from ecellm_lite.engine.settings import Settings

    class Changing(llama.LlamaBackend):
        def __init__(self, path: Path, settings: Settings, adapters: Mapping[str, Path]) -> None:
            damage(path)
            super().__init__(path, settings, adapters)

    monkeypatch.setattr(llama, "LlamaBackend", Changing)
    with refusal(ModelError, good):
        answer(good)


def test_verify_finds_a_corrupted_model(good: Path, home: Path) -> None:
    store = Store()
    path = store.add(good, "shop", "alpaca").path
    assert store.load("shop").manifest.sha256 == sha256_of(path)
    damage(path)
    assert store.identify(path, again=True).sha256 == sha256_of(path)
    with refusal(ModelError, "'shop'", sha256_of(path)):
        store.load("shop")
