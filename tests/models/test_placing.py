"""Tests that adding a file to the store keeps the file, even if it is already at its place in the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecellm_lite.models.store import Store
from tests.support.tiny_models import write_tiny_model


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("way", ["the file", "a link", "a linked folder", "a hard link", "a link in its place"])
def test_a_file_that_lies_in_its_place_is_kept(way: str, move: bool, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    place = store.folder("tiny") / "model.gguf"
    place.parent.mkdir(parents=True)
    write_tiny_model(place)
    data = place.read_bytes()
    source = tmp_path / "other.gguf"
    if way == "the file":
        source = place
    elif way == "a link":
        source.symlink_to(place)
    elif way == "a linked folder":
        (tmp_path / "folder").symlink_to(place.parent)
        source = tmp_path / "folder" / "model.gguf"
    elif way == "a hard link":
        source.hardlink_to(place)
    else:
        place.rename(source)
        place.symlink_to(source)
    added = store.add(source, "tiny", "alpaca", move=move)
    assert added.path == place
    assert store.load("tiny").path.read_bytes() == data
    assert not place.is_symlink()
    elsewhere = way in {"a link", "a hard link", "a link in its place"}
    assert (source.is_symlink() or source.exists()) == (not move or not elsewhere)
    assert elsewhere or place.stat().st_nlink == 1
    if not move and way != "a link":
        assert not elsewhere or not source.samefile(place)


def test_a_leftover_of_a_killed_process_can_be_added(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.folder("tiny").mkdir(parents=True)
    leftover = write_tiny_model(store.folder("tiny") / ".model.gguf.0123abcd")
    other = write_tiny_model(store.folder("tiny") / ".model.gguf.4567abcd", seed=1)
    data = leftover.read_bytes()
    assert store.add(leftover, "tiny", "alpaca").path.read_bytes() == data
    assert not other.exists()
