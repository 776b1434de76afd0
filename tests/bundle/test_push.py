"""Tests that a push into a feed can be interrupted at any moment, and that only one process pushes at a time."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from ecellm_lite.bundle import feed
from ecellm_lite.bundle.feed import push
from ecellm_lite.bundle.keys import make_key
from ecellm_lite.errors import BusyError, ModelError, UsageError
from ecellm_lite.models.files import copy_file
from tests.support.feeds import Chain
from tests.support.refusals import refusal
from tests.support.tiny_models import write_tiny_model


class Killed(BaseException):
    pass


def kill_at(patch: pytest.MonkeyPatch, rename: int) -> list[Path]:
    """Make the process fail just before it renames a file for the `rename`-th time.

    Return a list, to which the new path is added after each rename.
    """
    renamed: list[Path] = []
    replace = Path.replace

    def counted(self: Path, target: Any) -> Path:
        if len(renamed) + 1 == rename:
            raise Killed
        renamed.append(Path(target))
        return replace(self, target)

    patch.setattr(Path, "replace", counted)
    return renamed


@pytest.mark.parametrize("first", [True, False])
def test_a_killed_push_leaves_a_feed_that_the_next_push_repairs(first: bool, chain: Chain) -> None:
    if not first:
        chain.push(1)
        chain.pull()
    before = None if first else chain.sha256()
    chain.shop.store.add(write_tiny_model(chain.shop.folder / "b.gguf", seed=7), "other", "alpaca")
    model = chain.shop.store.load("other")
    results = set()
    for moment in range(1, 10):
        with pytest.MonkeyPatch.context() as patch, suppress(Killed):
            renamed = kill_at(patch, moment)
            push(model, chain.shop.store, chain.folder, chain.shop.key, serial=moment * 10)
            break
        with suppress(ModelError):  # between the signature and the index, a pull is refused
            chain.pull()
        assert first or chain.sha256() == before
        results.add(renamed[-1].name if renamed else "")
    assert results >= {"index.json.minisig", ".index.json.next"}
    chain.push(100)
    chain.pull()
    assert chain.till.names() == ["other", "tiny:F32"]
    assert [path.name for path in chain.folder.glob(".*") if path.name != feed.LOCK] == []


def test_only_the_same_key_finishes_a_push(chain: Chain) -> None:
    chain.push(1)
    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        renamed = kill_at(patch, 4)
        chain.push(2)
    assert renamed[-1].name == "index.json.minisig"
    with pytest.raises(ModelError):
        chain.pull()
    with pytest.raises(ModelError):
        push(chain.shop.store.load("tiny:F32"), chain.shop.store, chain.folder, make_key(), serial=3)
    chain.push(3)
    assert chain.pull().index.serial == 3


def test_a_full_disk_leaves_the_feed_as_it_was(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.push(1)
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if "index.json" in self.name and "minisig" not in self.name:
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with refusal(ModelError, chain.folder):
        chain.push(2)
    assert chain.pull().index.serial == 1


def test_a_second_push_at_the_same_time_is_refused(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = Event(), Event()

    def slow(source: Path, target: Path) -> str:
        begun.set()
        go_on.wait(timeout=30)
        return copy_file(source, target)

    monkeypatch.setattr(feed, "copy_file", slow)
    pushing = Thread(target=chain.push, args=(1,))
    pushing.start()
    begun.wait(timeout=30)
    with refusal(BusyError, chain.folder):
        chain.push(2)
    go_on.set()
    pushing.join()
    assert chain.pull().index.serial == 1


def test_an_index_keeps_its_name(chain: Chain) -> None:
    chain.push(1)
    model, store = chain.shop.store.load("tiny:F32"), chain.shop.store
    before = (chain.folder / "index.json").read_bytes()
    with refusal(UsageError, chain.folder.name, settings=("name",)):
        push(model, store, chain.folder, chain.shop.key, name="other", serial=2)
    assert (chain.folder / "index.json").read_bytes() == before
    assert push(model, store, chain.folder, chain.shop.key, name=chain.folder.name, serial=2).serial == 2
