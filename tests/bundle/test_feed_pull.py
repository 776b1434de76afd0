"""Tests of pulls from a feed (a signed folder of models): a full disk, several disks, and several feeds."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.bundle import download
from ecellm_lite.bundle.feed import push
from ecellm_lite.bundle.feed_pull import pull_feed
from ecellm_lite.bundle.keys import make_key
from ecellm_lite.errors import ModelError
from ecellm_lite.models.calibration_files import keep_calibration
from ecellm_lite.models.store import Store
from tests.support.calibrations import calibration_of
from tests.support.feeds import Chain, FolderServer
from tests.support.refusals import refusal


def filled(disk: Path, free: int) -> None:
    """Fill a disk until only `free` bytes are free."""
    with (disk / "filler").open("wb") as file:
        file.write(bytes(shutil.disk_usage(disk).free - free))


@pytest.mark.parametrize("checked", [True, False])
def test_a_full_disk_is_named_without_further_tries(
    checked: bool, chain: Chain, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.push(1)
    till = replace(chain, till=Store(small_disk / "store"))
    filled(small_disk, 40_960)
    if not checked:  # another process fills the disk after the check
        usage = shutil.disk_usage(small_disk)._replace(free=1 << 40)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with refusal(ModelError, small_disk):
        till.pull()
    assert till.server.files() == ([] if checked else [0, 0])  # the manifest and the weights
    (small_disk / "filler").unlink()
    till.pull()
    assert till.sha256() == till.shop.store.load("tiny:F32").manifest.sha256


def test_a_partial_download_needs_less_room(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.push(1)
    size = sum(path.stat().st_size for path in (chain.folder / "files").iterdir())
    monkeypatch.setattr(download, "TRIES", 1)
    chain.server.breaks, chain.server.after = 2, 20_000
    with pytest.raises(ModelError):
        chain.pull()
    present = sum(path.stat().st_size for path in chain.downloads.iterdir())
    usage = shutil.disk_usage(chain.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size - present - 1))
    with pytest.raises(ModelError):
        chain.pull()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size - present))
    chain.pull()


def test_a_model_whose_folder_is_on_another_disk_is_pulled(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.push(1)
    rename = Path.replace

    def refuses(self: Path, target: Any) -> Path:
        if self.parent == chain.downloads:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", refuses)
    chain.pull()
    assert chain.sha256() == chain.shop.store.load("tiny:F32").manifest.sha256
    assert not chain.downloads.exists()
    assert chain.pull().changed == []


def test_downloads_are_on_the_disk_of_the_models(chain: Chain, small_disk: Path, tmp_path: Path) -> None:
    chain.push(1)
    (tmp_path / "models").mkdir()
    (small_disk / "store").mkdir()
    (small_disk / "store" / "models").symlink_to(tmp_path / "models")
    filled(small_disk, 40_960)
    till = replace(chain, till=Store(small_disk / "store"))
    till.pull()
    assert till.sha256() == till.shop.store.load("tiny:F32").manifest.sha256


def test_feeds_of_the_same_name_by_different_keys_do_not_hinder_each_other(chain: Chain, tmp_path: Path) -> None:
    chain.push(9)
    chain.pull()
    key = make_key()
    with FolderServer(tmp_path / "other" / "feed") as server:
        model = chain.shop.store.load("tiny:F32")
        push(model, chain.shop.store, server.folder, key, serial=1)
        assert pull_feed(server.address, [key.public], chain.till).index.name == "feed"
    chain.push(10)
    chain.pull()


def test_an_old_index_of_a_replaced_key_is_refused_at_its_address(chain: Chain) -> None:
    keys = [make_key(), make_key()]
    model, store = chain.shop.store.load("tiny:F32"), chain.shop.store
    trusted = [key.public for key in keys]
    push(model, store, chain.folder, keys[0], serial=1)
    old = {path: path.read_bytes() for path in chain.folder.glob("index.json*")}
    pull_feed(chain.server.address, trusted, chain.till)
    for path in old:
        path.unlink()
    push(model, store, chain.folder, keys[1], serial=2)
    pull_feed(chain.server.address, trusted, chain.till)
    for path, data in old.items():
        path.write_bytes(data)
    with refusal(ModelError, "2"):
        pull_feed(chain.server.address, trusted, chain.till)


def test_downloads_of_a_replaced_index_are_removed(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.push(1)
    monkeypatch.setattr(download, "TRIES", 1)
    old = chain.shop.store.load("tiny:F32").manifest.sha256

    def interrupted(server: FolderServer, keys: Any) -> None:
        server.breaks, server.after = 2, 3000
        with pytest.raises(ModelError):
            pull_feed(server.address, keys, chain.till)
        server.breaks = 0

    interrupted(chain.server, [chain.shop.key.public])
    assert (chain.downloads / old).exists()
    key = make_key()
    with FolderServer(tmp_path / "other") as server:
        push(chain.shop.store.load("tiny:F32"), chain.shop.store, server.folder, key, name="other", serial=1)
        interrupted(server, [key.public])
        chain.push(2, seed=5)
        interrupted(chain.server, [chain.shop.key.public])
        assert not (chain.downloads / old).exists()
        assert list(chain.downloads.iterdir()) != []
        chain.pull()
        server.files()
        pull_feed(server.address, [key.public], chain.till)
        assert max(server.files()) == 3000
    assert not chain.downloads.parent.exists()


def test_calibrations_that_a_feed_withdraws_are_removed_and_those_of_the_till_stay(chain: Chain) -> None:
    def calibrate(store: Store, task: str, temperature: float) -> Path:
        model = store.load("tiny:F32")
        fitted = calibration_of(task, temperature)
        scope = replace(fitted.scope, model=model.manifest.sha256)
        return keep_calibration(store, model, replace(fitted, scope=scope))

    tasks = ["sentiment_analysis", "product_matching", "answerability_prediction"]
    shipped = [calibrate(chain.shop.store, task, 2.0) for task in tasks]
    chain.push(1)
    assert chain.pull().changed == ["tiny:F32"]
    copies = [chain.till.folder("tiny:F32") / "calibration" / path.name for path in shipped]
    assert [copy.read_bytes() for copy in copies] == [path.read_bytes() for path in shipped]
    assert chain.pull().changed == []

    own = calibrate(chain.till, tasks[1], 3.0).read_bytes()
    copies[2].unlink()
    chain.server.files()
    assert (chain.pull().changed, chain.server.files()) == ([], [])
    for path, task in zip(shipped, tasks, strict=True):
        calibrate(chain.shop.store, task, 4.0)
        assert path.exists()
    chain.push(2)
    assert chain.pull().changed == ["tiny:F32"]
    assert [copies[0].read_bytes(), copies[1].read_bytes()] == [shipped[0].read_bytes(), own]
    assert not copies[2].exists()

    for path in shipped:
        path.unlink()
    chain.push(3)
    assert chain.pull().changed == ["tiny:F32"]
    assert [copy.exists() for copy in copies] == [False, True, False]
    assert chain.pull().changed == []
