"""Tests that a file gets its final name only when it is complete, and that a second writer is refused."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.convert import descriptors
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.pipeline import ConversionProgress
from ecellm_lite.convert.writer import NotResumableError, UnfinishedFile, unfinished_paths
from ecellm_lite.errors import BusyError, ModelError
from ecellm_lite.models.gguf_header import read_header
from tests.support.conversions import carry_out, converted, planned
from tests.support.refusals import refusal
from tests.support.small_checkpoints import weights, write_checkpoint


def test_a_second_conversion_to_the_same_target_is_refused(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    target = tmp_path / "out.gguf"
    inside, go_on = threading.Event(), threading.Event()

    def wait(_: ConversionProgress) -> None:
        inside.set()
        go_on.wait(30)

    def first() -> None:
        with Checkpoint(base) as source:
            carry_out(planned(source), source, target, progress=wait)

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert inside.wait(30)
        for resume in (False, True):
            with Checkpoint(base) as source, pytest.raises(BusyError):
                carry_out(planned(source), source, target, resume=resume)
    finally:
        go_on.set()
        thread.join()
    assert read_header(target).file_size == target.stat().st_size


def test_a_full_disk_is_an_error_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    converted(base, tmp_path / "whole.gguf")
    target = tmp_path / "out.gguf"
    with Checkpoint(base) as source:
        plan = replace(planned(source), block_weights=1 << 13)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        refused = full(plan.size // 2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "pwrite", refused)
            with refusal(ModelError, os.strerror(errno.ENOSPC), settings=("resume",), file=str(target)):
                carry_out(plan, source, target)
        resource.setrlimit(resource.RLIMIT_FSIZE, (plan.size // 2, hard))
        try:
            with refusal(ModelError, os.strerror(errno.EFBIG)):
                carry_out(plan, source, tmp_path / "limited.gguf")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not target.exists()
        written = carry_out(plan, source, target, resume=True)
    assert written.resumed > 0
    assert target.read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def full(size: int) -> Any:
    pwrite = os.pwrite

    def write(descriptor: int, data: Any, offset: int) -> int:
        if offset + len(data) > size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, data, offset)

    return write


def test_a_disk_that_fills_during_the_run_is_an_error(small_disk: Path, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    converted(base, tmp_path / "whole.gguf")
    target = small_disk / "out.gguf"
    with Checkpoint(base) as source:
        plan = replace(planned(source), block_weights=1 << 13)
        with refusal(ModelError, settings=("file_type",), file=str(target)):
            plan.check_room(target)
        with refusal(ModelError, os.strerror(errno.ENOSPC), settings=("resume",), file=str(target)):
            carry_out(plan, source, target)
        assert not target.exists()
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        plan.check_room(target)
        carry_out(plan, source, target, resume=True)
    assert target.read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_unwritable_targets_are_refused(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.gguf").mkdir()
    places = [tmp_path / "file" / "out.gguf", tmp_path / "folder.gguf"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.gguf")
        places.append(tmp_path / "pipe.gguf")
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        places.append(tmp_path / "closed" / "out.gguf")
    (tmp_path / ".link.gguf.unfinished").symlink_to(tmp_path / "elsewhere")
    places.append(tmp_path / "link.gguf")
    for target in places:
        with Checkpoint(base) as source, refusal(ModelError, settings=("target",), file=str(target)):
            carry_out(planned(source), source, target)
    assert not (tmp_path / "elsewhere").exists()


def test_a_read_only_disk_is_an_error(small_disk: Path, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    target = small_disk / "out.gguf"
    target.write_bytes(b"what was there before")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with Checkpoint(base) as source, refusal(ModelError, os.strerror(errno.EROFS), file=str(target)):
        carry_out(planned(source), source, target)
    assert target.read_bytes() == b"what was there before"


def test_the_lock_is_held_until_the_manifest_is_written(tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    with UnfinishedFile(target, 4, {}) as file:
        file.write(b"GGUF", 0)
        file.flush(4)
        file.finish("0")
        # The manifest is written now: the file has its final name, and the unfinished file's name is free.
        for resume in (False, True):
            with pytest.raises(BusyError):
                UnfinishedFile(target, 4, {}, resume=resume)
        file.forget()
        with UnfinishedFile(target, 4, {"other": 1}) as second:
            file.forget()
            file.close()
            assert all(path.exists() for path in unfinished_paths(target))
            second.write(b"MORE", 0)
            second.flush(4)
            second.finish("1")
            second.forget()
    assert target.read_bytes() == b"MORE"
    assert list(tmp_path.iterdir()) == [target]


def test_another_file_never_gets_the_targets_name(tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    unfinished, journal = unfinished_paths(target)
    with UnfinishedFile(target, 4, {}) as file:
        unfinished.unlink()
        unfinished.write_bytes(b"another's")
        with pytest.raises(NotResumableError):
            file.finish("0")
        file.forget()
    assert not target.exists()
    assert not journal.exists()
    assert unfinished.read_bytes() == b"another's"


def test_an_unfinished_file_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(descriptor: int, count: int, offset: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with UnfinishedFile(tmp_path / "out.gguf", 7, {}) as file:
        file.write(b"weights", 0)
        monkeypatch.setattr(descriptors, "read_at", read)
        with refusal(ModelError, os.strerror(errno.EIO), settings=("resume",), file=str(file.unfinished)):
            file.read(7, 0)
