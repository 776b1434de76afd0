"""Tests how a bundle is written: as a ZIP archive that other programs can read, with a minisign signature."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.bundle.archive import open_archive
from ecellm_lite.bundle.contents import Contents, create
from ecellm_lite.bundle.index import FORMAT, Index, read_index
from ecellm_lite.bundle.layout import Entry, layout
from ecellm_lite.bundle.writer import Source, write_bundle
from ecellm_lite.errors import InputError, ModelError, UsageError
from tests.support.bundles import TASK, Shop
from tests.support.refusals import refusal


def test_a_bundle_contains_its_sources(shop: Shop) -> None:
    path = shop.bundle()
    with open_archive(path, [shop.key.public]) as archive:
        archive.verify()
        index = archive.index
    assert (index.name, index.serial, index.model, archive.key) == ("till", 1, "tiny:F32", shop.key.public)
    with zipfile.ZipFile(path) as other:
        assert other.testzip() is None
        assert other.namelist() == ["index.json", "index.json.minisig", *(file.path for file in index.files)]
        for file in index.files:
            assert hashlib.sha256(other.read(file.path)).hexdigest() == file.sha256
            assert other.getinfo(file.path).external_attr >> 16 & 0o777 == file.mode
            assert other.getinfo(file.path).compress_type == zipfile.ZIP_STORED
        assert other.read("home/tasks/routing.toml").decode() == TASK
        assert other.read("program/lib/data file.txt") == b"data\n"
        assert read_index(other.read("index.json")) == index
    assert index.by_path["program/ecellm-lite"].mode == 0o755
    assert index.files[-1].path.endswith("model.gguf")


def test_licences_are_listed(shop: Shop) -> None:
    with zipfile.ZipFile(shop.bundle()) as archive:
        listed = json.loads(archive.read("licences/list.cdx.json"))
    [model] = [one for one in listed["components"] if one["type"] == "machine-learning-model"]
    assert (model["name"], model["licenses"]) == ("tiny:F32", [{"license": {"name": "CC0-1.0"}}])
    assert model["hashes"][0]["content"] == shop.contents.model.manifest.sha256


def test_files_above_four_gibibytes_are_laid_out_correctly(tmp_path: Path) -> None:
    """The file is sparse: it has the archive's headers, but no data."""
    entries = [Entry("a/one", 5 << 30, 0, 0o644), Entry("a/zwölf", 3, 0, 0o755)]
    places = layout(entries, 4096)
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        for place, header in [*places.headers, places.tail]:
            file.seek(place)
            file.write(header)
    assert path.stat().st_size == places.size > 5 << 30
    with zipfile.ZipFile(path) as archive:
        assert [(one.filename, one.file_size) for one in archive.infolist()] == [("a/one", 5 << 30), ("a/zwölf", 3)]


def test_minisign_accepts_the_signature(shop: Shop, tmp_path: Path) -> None:
    minisign = pytest.importorskip("minisign", reason="py-minisign is not installed")
    shop.key.write(tmp_path / "shop.key")
    shop.key.public.write(tmp_path / "shop.pub")
    public = minisign.PublicKey.from_base64((tmp_path / "shop.pub").read_text("utf-8").splitlines()[1])
    with zipfile.ZipFile(shop.bundle()) as archive:
        data, signature = (archive.read(name) for name in ("index.json", "index.json.minisig"))
    public.verify(data, minisign.Signature.from_bytes(signature))
    secret = minisign.SecretKey.from_bytes((tmp_path / "shop.key").read_bytes())
    public.verify(b"text", secret.sign(b"text"))


def test_the_signature_has_the_format_of_minisign(shop: Shop) -> None:
    with zipfile.ZipFile(shop.bundle()) as archive:
        data, text = (archive.read(name) for name in ("index.json", "index.json.minisig"))
    untrusted, signature, trusted, of_both = text.decode().splitlines()
    assert (untrusted[:19], trusted) == ("untrusted comment: ", "trusted comment: bundle till, serial 1")
    raw = base64.b64decode(signature)
    assert (raw[:2], raw[2:10]) == (b"ED", shop.key.public.id)
    assert shop.key.public.verifies(raw[10:], hashlib.blake2b(data).digest())
    assert shop.key.public.verifies(base64.b64decode(of_both), raw[10:] + b"bundle till, serial 1")


def test_a_delta_contains_only_changed_files(shop: Shop) -> None:
    old = shop.bundle()
    shop.say("two")
    new = shop.bundle("new.ecb", serial=2, since=old)
    with open_archive(new, [shop.key.public]) as archive:
        paths = [file.path for file in archive.index.included]
        # `tasks add` may replace the task, and a pull the manifest.
        replaceable = ["home/tasks/routing.toml", "home/models/tiny--F32/manifest.json"]
        assert sorted(paths) == sorted(["program/ecellm-lite", *replaceable])
        archive.verify()
    assert new.stat().st_size < old.stat().st_size / 4
    with refusal(UsageError, settings=("name", "serial")):
        shop.bundle("again.ecb", serial=1, since=old)


def test_unusable_contents_are_refused(shop: Shop, tmp_path: Path) -> None:
    program = shop.folder / "program"
    (program / "con.txt").write_text("x", "utf-8")
    with refusal(UsageError, "con.txt"):
        shop.bundle()
    (program / "con.txt").rename(program / "Con")
    with refusal(UsageError, "Con"):
        shop.bundle()
    (program / "Con").unlink()
    (program / "passwd").symlink_to("/etc/passwd")
    with refusal(UsageError, "passwd"):
        shop.bundle()
    (program / "passwd").unlink()
    (shop.folder / "bad.toml").write_text("name = 3", "utf-8")
    with refusal(InputError, "bad.toml"):
        shop.bundle(contents=Contents(shop.contents.model, tasks=[shop.folder / "bad.toml"]))
    with refusal(UsageError, settings=("wheels",)):
        shop.bundle(contents=Contents(shop.contents.model, wheels=tmp_path))
    with refusal(UsageError, "adapter"):
        shop.bundle(contents=Contents(shop.contents.model, adapters={"style": shop.contents.model.path}))
    assert not (shop.folder / "till.ecb").exists()


@pytest.mark.parametrize("options", [{"name": "../x"}, {"serial": 10**20}])
def test_a_name_or_number_that_is_not_allowed_is_shown(options: dict[str, Any], shop: Shop) -> None:
    [(setting, value)] = options.items()
    with refusal(UsageError, value, settings=(setting,)):
        create(shop.folder / "till.ecb", shop.contents, shop.store, **options)


def test_tasks_of_one_folder_may_share_a_label_file(shop: Shop, tmp_path: Path) -> None:
    def task(folder: str, name: str, labels: str) -> Path:
        path = tmp_path / folder / f"{name}.toml"
        path.parent.mkdir(exist_ok=True)
        answer = 'type = "choice"\nlabels = { file = "labels.txt" }'
        path.write_text(TASK.replace("routing", name).replace('type = "predicate"', answer), "utf-8")
        (path.parent / "labels.txt").write_text(labels, "utf-8")
        return path

    tasks = [task("shop", "first", "Toys\nLamps\n"), task("shop", "second", "Toys\nLamps\n")]
    with zipfile.ZipFile(shop.bundle(contents=Contents(shop.contents.model, tasks=tasks))) as archive:
        assert archive.namelist().count("home/tasks/labels.txt") == 1
    with refusal(UsageError, "labels.txt", settings=("task",)):
        shop.bundle(contents=Contents(shop.contents.model, tasks=[*tasks, task("other", "third", "Mugs\nPans\n")]))


def test_a_file_that_changes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "grows"
    path.write_bytes(b"1234")
    draft = Index(FORMAT, "till", 1, "now", "tiny", "", None, None, [])
    monkeypatch.setattr(Source, "size", property(lambda _: 3))
    with refusal(ModelError, "grows"):
        write_bundle(tmp_path / "till.ecb", draft, [Source("home/x", path)], None)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (path := tmp_path / "folder").mkdir()
    draft = Index(FORMAT, "till", 1, "now", "tiny", "", None, None, [])
    with refusal(ModelError, path):
        write_bundle(tmp_path / "till.ecb", draft, [Source("home/x", path)], None)
    assert list(tmp_path.iterdir()) == [path]


def test_an_old_bundle_is_kept_if_a_new_one_fails(shop: Shop) -> None:
    path = shop.bundle()
    before = path.read_bytes()
    shop.contents.model.path.unlink()
    with refusal(ModelError, "model.gguf"):
        shop.bundle(serial=2)
    assert path.read_bytes() == before
