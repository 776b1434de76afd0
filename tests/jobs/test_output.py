"""Tests of a job's output file, which gets its final name only when it is complete."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import IO

import pytest

from ecellm_lite import InputError
from ecellm_lite.jobs.output import check_output, output_file


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_text("old")
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "real.jsonl")
    with output_file(link) as file:
        file.write(b"new\n")
    assert link.is_symlink()
    assert (tmp_path / "real.jsonl").read_text() == "new\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this platform has no pipes with a name")
def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    with output_file(pipe) as file:
        file.write(b"through\n")
    reader.join(30)
    assert read == ["through\n"]
    assert pipe.is_fifo()


def test_lines_written_before_an_interruption_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt), output_file(path) as file:
        _write_and_stop(file)
    assert not path.exists()
    assert (tmp_path / "out.jsonl.part").read_text() == "one\n"


@pytest.mark.parametrize("letters", [250, 300])
def test_a_name_that_is_too_long_is_an_error(letters: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=os.strerror(errno.ENAMETOOLONG)):
        check_output(tmp_path / ("n" * letters + ".json"))


def _write_and_stop(file: IO[bytes]) -> None:
    file.write(b"one\n")
    raise KeyboardInterrupt
