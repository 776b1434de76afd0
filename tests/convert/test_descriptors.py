"""Tests a conversion under simulated Windows. Nothing here runs on Windows itself.

The simulation has no pread, pwrite or flock, and open files cannot be renamed or removed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecellm_lite.convert import descriptors
from ecellm_lite.convert.writer import UnfinishedFile, unfinished_paths
from ecellm_lite.errors import BusyError
from tests.support.conversions import converted
from tests.support.small_checkpoints import weights, write_checkpoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds open files in /proc")


def is_open(path: Path) -> bool:
    if not path.exists():
        return False
    links = [Path(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return any(link.exists() and os.path.samestat(link.stat(), path.stat()) for link in links)


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def locking(descriptor: int, mode: int, _: int) -> None:
        assert mode == 1
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(13, "Permission denied") from None

    def refusing(change: Callable[..., Any]) -> Callable[..., Any]:
        def checked(path: Path, *arguments: Any, **options: Any) -> Any:
            if is_open(path) or (arguments and is_open(Path(arguments[0]))):
                raise PermissionError(13, "The process cannot access the file", str(path))
            return change(path, *arguments, **options)

        return checked

    for name in ("preadv", "pread", "pwrite", "pwritev"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(descriptors, "_fcntl", None)
    monkeypatch.setattr(descriptors, "KEEPS_OPEN_FILES", True)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=1))
    for name in ("replace", "unlink", "rename"):
        monkeypatch.setattr(Path, name, refusing(getattr(Path, name)))


def test_the_code_for_windows_writes_the_same_file(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    posix, windows = tmp_path / "posix.gguf", tmp_path / "windows.gguf"
    converted(base, posix)
    request.getfixturevalue("windows")
    converted(base, windows)
    assert windows.read_bytes() == posix.read_bytes()
    assert not any(path.exists() for path in unfinished_paths(windows))


def test_the_code_for_windows_locks_and_resumes(tmp_path: Path, windows: None) -> None:
    target = tmp_path / "out.gguf"
    with UnfinishedFile(target, 8, {}) as file:
        file.write(b"abcd", 0)
        file.flush(4)
        with pytest.raises(BusyError):
            UnfinishedFile(target, 8, {})
    with UnfinishedFile(target, 8, {}, resume=True) as file:
        assert file.done == 4
        assert file.read(8, 0) == b"abcd\0\0\0\0"
        file.write(b"efgh", 4)
        file.finish("0" * 64)
        file.forget()
    assert target.read_bytes() == b"abcdefgh"
    assert not any(path.exists() for path in unfinished_paths(target))
