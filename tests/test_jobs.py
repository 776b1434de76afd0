"""Rows from files: every line has its place, whatever is in it."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import TASKS, InputError, Runtime, UsageError
from ecellm_lite.answers.answer import Answer
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs.job import open_job, write_answers
from ecellm_lite.jobs.output import check_output, output_file
from ecellm_lite.tables import json_lines as rows_module
from ecellm_lite.tables.json_lines import read_rows


@given(st.binary(max_size=400))
def test_any_bytes_are_rows_or_errors(data: bytes) -> None:
    found = list(read_rows(io.BytesIO(data)))
    assert len(found) == sum(1 for line in data.split(b"\n") if line.strip())
    assert all(isinstance(row, dict | InputError) for row in found)


def test_lines_are_numbered_as_an_editor_does() -> None:
    found = list(read_rows(io.BytesIO(b'\n{"a": 1}\n\n{"a": \n')))
    assert found[0] == {"a": 1}
    assert "Line 4 is not JSON" in str(found[1])


def test_a_line_without_end_is_not_read_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "LONGEST_LINE", 100)
    found = list(read_rows(io.BytesIO(b'{"a": "' + b"x" * 1000 + b'"}\n{"b": 2}\n')))
    assert "Line 1 has more than 100 bytes" in str(found[0])
    assert found[1] == {"b": 2}


def test_nested_json_is_refused() -> None:
    [row] = read_rows(io.BytesIO(b'{"a": ' + b"[" * 200_000))
    assert isinstance(row, InputError)


def test_the_output_takes_its_name_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with Runtime.over(FakeBackend()) as runtime, output_file(path) as file:
        tally = write_answers(runtime.answers("sentiment_analysis", [{"review": "x"}, {}]), file)
        assert not path.exists()
    assert (tally.rows, tally.failed) == (2, 1)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["error"] is None for line in lines] == [True, False]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_text("old")
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "real.jsonl")
    with output_file(link) as file:
        file.write("new\n")
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
        file.write("through\n")
    reader.join(30)
    assert read == ["through\n"]
    assert pipe.is_fifo()


def test_what_was_written_before_an_interruption_stays(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt), output_file(path) as file:
        _write_and_stop(file)
    assert not path.exists()
    assert (tmp_path / "out.jsonl.part").read_text() == "one\n"


def test_an_answer_is_in_the_file_before_the_next_is_asked_for(tmp_path: Path) -> None:
    seen: list[int] = []
    part = tmp_path / "out.jsonl.part"

    def answers() -> Iterator[Answer]:
        with Runtime.over(FakeBackend()) as runtime:
            for number in range(3):
                seen.append(part.read_text().count("\n"))
                yield runtime.answer("sentiment_analysis", {"review": f"{number} stars"})

    with output_file(tmp_path / "out.jsonl") as file:
        write_answers(answers(), file)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("letters", [250, 300])
def test_a_name_that_is_too_long_is_one_sentence(letters: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="File name too long"):
        check_output(tmp_path / ("n" * letters + ".json"))


def _write_and_stop(file: IO[str]) -> None:
    file.write("one\n")
    raise KeyboardInterrupt


@pytest.mark.parametrize("form", ["path", "link", "unfinished"])
def test_a_job_does_not_replace_the_rows_it_reads(form: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"review": "x"}\n')
    output = {"path": rows, "link": tmp_path / "link.jsonl", "unfinished": tmp_path / "other.jsonl"}[form]
    if form == "link":
        output.symlink_to(rows)
    elif form == "unfinished":
        os.link(rows, tmp_path / "other.jsonl.part")
    with pytest.raises(UsageError) as caught, open_job(rows, output):
        pass
    assert caught.value.settings == ("output",)
    assert rows.read_text() == '{"review": "x"}\n'


def test_a_job_does_not_replace_the_file_on_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"review": "x"}\n')
    with rows.open() as standard_input:
        monkeypatch.setattr(sys, "stdin", standard_input)
        with pytest.raises(UsageError), open_job(None, rows):
            pass


def test_a_job_answers_its_rows_through_any_answerer(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "review": "x"}\n{"id": 2}\n')
    output = tmp_path / "answers.jsonl"
    progress: list[Answer] = []
    with open_job(tmp_path / "rows.jsonl", output) as job, Runtime.over(FakeBackend()) as runtime:
        tally = job.run(runtime, TASKS["sentiment_analysis"], progress=progress.append)
    assert (tally.rows, tally.failed) == (2, 1)
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert [answer["id"] for answer in answers] == [answer.id for answer in progress] == [1, 2]
