"""Tests that a file's hash is computed once, and again only if the file's bytes may have changed."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from ecellm_lite.errors import ModelError
from ecellm_lite.models import file_identity
from ecellm_lite.models.file_identity import FileIdentities
from tests.support.refusals import refusal

DATA = bytes(range(256)) * 4096  # a megabyte


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which an item is added each time a whole file is hashed."""
    times: list[int] = []
    whole = file_identity._sha256

    def counted(*arguments: object) -> str:
        times.append(len(times))
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(file_identity, "_sha256", counted)
    return times


def identities(tmp_path: Path) -> FileIdentities:
    """Return a new FileIdentities, which reads the stored hashes from disk like a new process."""
    return FileIdentities(tmp_path / "hashes.json")


def damage(path: Path, place: int, data: bytes = bytes(4096)) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)


def test_a_file_is_hashed_once(path: Path, tmp_path: Path, hashed: list[int]) -> None:
    first = identities(tmp_path).identify(path)
    assert first.sha256 == hashlib.sha256(DATA).hexdigest()
    assert identities(tmp_path).identify(path) == first
    assert first.holds(path)
    assert len(hashed) == 1


@pytest.mark.parametrize("place", [0, 4096, 500_000, len(DATA) - 4096])
def test_a_write_is_noticed_if_the_modification_time_is_reset(place: int, path: Path, tmp_path: Path) -> None:
    first = identities(tmp_path).identify(path)
    before = path.stat()
    damage(path, place)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert not first.holds(path)
    second = identities(tmp_path).identify(path)
    assert second.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() != first.sha256


def test_a_write_right_after_hashing_is_noticed(path: Path, tmp_path: Path) -> None:
    """A file's times advance only every few milliseconds. So a write soon after hashing may not change the times."""
    for number in range(20):
        damage(path, 5000, bytes([number]))
        assert identities(tmp_path).identify(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_another_file_of_the_same_size_and_times_is_noticed(path: Path, tmp_path: Path) -> None:
    first = identities(tmp_path).identify(path)
    status = path.stat()
    other = tmp_path / "other"
    other.write_bytes(DATA[:-1] + b"x")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert identities(tmp_path).identify(path).sha256 != first.sha256


def test_sampled_bytes_reveal_a_change_without_new_times(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing disk may change bytes although the file's times stay the same. In this test, the first bytes change."""
    state = file_identity._state(path.stat())
    monkeypatch.setattr(file_identity, "_state", lambda _: state)
    first = identities(tmp_path).identify(path)
    damage(path, 0, b"rot")
    assert identities(tmp_path).identify(path).sha256 != first.sha256


def test_a_change_between_the_samples_is_found_by_hashing_again(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = file_identity._state(path.stat())
    monkeypatch.setattr(file_identity, "_state", lambda _: state)
    first = identities(tmp_path).identify(path)
    damage(path, 6000, b"rot")  # between the first block of the sample and the second
    assert identities(tmp_path).identify(path) == first
    again = identities(tmp_path).identify(path, again=True)
    assert again.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() != first.sha256
    assert identities(tmp_path).identify(path) == again


def test_a_file_with_a_noted_hash_is_not_hashed(path: Path, tmp_path: Path, hashed: list[int]) -> None:
    sha256 = hashlib.sha256(DATA).hexdigest()
    assert identities(tmp_path).note(path, sha256) == identities(tmp_path).identify(path)
    assert identities(tmp_path).remembered(path) == sha256
    assert identities(tmp_path).remembered(tmp_path / "other") is None
    assert hashed == []


def test_a_file_still_being_written_has_no_identity(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(_: float) -> None:
        damage(path, 9)

    monkeypatch.setattr(time, "sleep", sleep)
    with refusal(ModelError, path):
        identities(tmp_path).identify(path)
    assert identities(tmp_path).remembered(path) is None


@pytest.mark.parametrize("text", ["", "{broken", "[]", '{"format": 1, "files": {"/x": [1, 2, "3"]}}', '{"/x": [1, 2]}'])
def test_an_unusable_cache_is_replaced(text: str, path: Path, tmp_path: Path, hashed: list[int]) -> None:
    (tmp_path / "hashes.json").write_text(text)
    for _ in range(2):
        assert identities(tmp_path).identify(path).sha256 == hashlib.sha256(DATA).hexdigest()
    assert len(hashed) == 1


def test_an_unwritable_store_only_costs_time(path: Path, tmp_path: Path, hashed: list[int]) -> None:
    (tmp_path / "hashes.json").mkdir()
    for _ in range(2):
        assert identities(tmp_path).identify(path).sha256 == hashlib.sha256(DATA).hexdigest()
    assert len(hashed) == 2


def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_identity, "MOST", 3)
    paths = [tmp_path / str(number) for number in range(5)]
    for path in paths:
        path.write_text(path.name)
        identities(tmp_path).identify(path)
    assert [identities(tmp_path).remembered(path) is not None for path in paths] == [False, False, True, True, True]
