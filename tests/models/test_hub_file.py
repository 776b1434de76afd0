"""Tests that a file on the Hugging Face hub is read and downloaded, even if a download breaks or has wrong bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import huggingface_hub
import pytest

from ecellm_lite.errors import ModelError
from ecellm_lite.models.hub_file import HubFile, StoppedError
from tests.support.hub import COMMIT, Hub
from tests.support.refusals import refusal

NAME = "model.safetensors"
CONTENT = os.urandom(24 << 20)
CHUNK = 10 << 20  # huggingface_hub writes in pieces of this size


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub("shop/model", {NAME: CONTENT}) as hub:
        monkeypatch.setattr("huggingface_hub.hf_hub_url", partial(huggingface_hub.hf_hub_url, endpoint=hub.endpoint))
        yield hub


def file_of(content: bytes = CONTENT, name: str = NAME) -> HubFile:
    return HubFile("shop/model", COMMIT, name, len(content), hashlib.sha256(content).hexdigest())


def test_a_range_of_a_remote_file_is_read(served: Hub) -> None:
    assert file_of().read(5_000_001, 77) == CONTENT[5_000_001:5_000_078]
    with refusal(ModelError, "shop/model"):
        file_of(name="other").read(0, 8)


def test_a_broken_download_is_continued(served: Hub, tmp_path: Path) -> None:
    served.breaks[NAME] = [12 << 20, 1]
    received: list[int] = []
    file_of().fetch(tmp_path / "file", received.append)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert sum(received) == len(CONTENT)
    assert served.sent == [(NAME, None), (NAME, f"bytes={CHUNK}-")]


def test_a_stopped_download_is_continued(served: Hub, tmp_path: Path) -> None:
    def stop(_: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        file_of().fetch(tmp_path / "file", stop)
    assert (tmp_path / "file").read_bytes() == CONTENT[:CHUNK]
    received: list[int] = []
    file_of().fetch(tmp_path / "file", received.append)
    assert sum(received) == len(CONTENT) - CHUNK
    assert (tmp_path / "file").read_bytes() == CONTENT
    file_of().fetch(tmp_path / "file", stop)  # nothing is missing


@pytest.mark.parametrize("start", [b"", b"other bytes", CONTENT + b"and more"])
def test_wrong_bytes_are_not_kept(start: bytes, served: Hub, tmp_path: Path) -> None:
    expected = file_of() if start else file_of(bytes(len(CONTENT)))
    (tmp_path / "file").write_bytes(start)
    with refusal(ModelError, NAME, expected.sha256):
        expected.fetch(tmp_path / "file", lambda _: None)
    assert not (tmp_path / "file").exists()


def test_a_file_longer_than_the_hub_stated_is_refused(served: Hub, tmp_path: Path) -> None:
    with refusal(ModelError, "shop/model"):
        file_of(CONTENT[:1000]).fetch(tmp_path / "file", lambda _: None)
    assert (tmp_path / "file").stat().st_size <= 1000
