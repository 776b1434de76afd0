"""Tests a job's journal: its entries survive if the process is killed, and only one process writes at a time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import InputError, Runtime, UsageError
from ecellm_lite.answers.answer import Answer
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs.journal import UNCOMMITTED, Journal, row_key
from tests.support.answer_checks import EXAMPLES

FACTS = {"model": "a" * 64, "task": "sentiment_analysis"}


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    with Runtime.over(FakeBackend()) as runtime:
        return [runtime.answer(name, {**row, "id": 7}) for name, row in EXAMPLES.items()]


def test_answers_survive_a_round_trip(tmp_path: Path, answers: list[Answer]) -> None:
    with Journal(tmp_path / "journal", FACTS) as journal:
        for number, answer in enumerate(answers):
            journal.put(bytes([number]), answer)
        assert journal.get(b"none") is None
    with Journal(tmp_path / "journal", FACTS) as journal:
        assert journal.count() == len(answers)
        assert [journal.get(bytes([number])) for number in range(len(answers))] == [
            replace(answer, id=None) for answer in answers
        ]


def test_a_journal_of_another_question_is_refused(tmp_path: Path, answers: list[Answer]) -> None:
    path = tmp_path / "journal"
    with Journal(path, FACTS) as journal:
        journal.put(b"a", answers[0])
    with pytest.raises(UsageError, match="model") as error:
        Journal(path, {**FACTS, "model": "b" * 64})
    assert error.value.settings == ("model", "restart")
    with Journal(path, FACTS) as journal:
        assert journal.count() == 1
    with Journal(path, {**FACTS, "model": "b" * 64}, restart=True) as journal:
        assert journal.count() == 0


def test_an_empty_journal_takes_another_question(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for model in ("a" * 64, "b" * 64):
        with Journal(path, {**FACTS, "model": model}) as journal:
            assert journal.count() == 0
            assert journal.facts["model"] == model


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", FACTS), pytest.raises(UsageError) as error:
        Journal(tmp_path / "journal", FACTS)
    assert error.value.settings == ("output",)


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_journal_is_one_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal").write_bytes(content)
    with pytest.raises(InputError):
        Journal(tmp_path / "journal", FACTS)


def test_a_repeated_id_is_noticed(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", FACTS) as journal:
        assert [journal.note(id_) for id_ in (1, "1", 1, "a", "a")] == [True, True, False, True, False]
    with Journal(tmp_path / "journal", FACTS) as journal:
        assert journal.note(1)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers() | st.lists(st.text(max_size=3))))
def test_a_rows_key_is_made_of_its_fields(row: dict[str, object]) -> None:
    key = row_key(row)
    assert row_key({**dict(reversed(row.items())), "id": 9}) == key
    assert row_key({**row, "another": "field"}) != key or row.get("another") == "field"


def test_a_kill_loses_only_uncommitted_answers(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from ecellm_lite import Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs.journal import Journal
from tests.support.answer_checks import EXAMPLES
with Runtime.over(FakeBackend()) as runtime:
    answer = runtime.answer("sentiment_analysis", EXAMPLES["sentiment_analysis"])
with Journal(Path(sys.argv[1]), {"model": "a"}) as journal:
    for number in range(10_000_000):
        journal.put(number.to_bytes(8, "big"), answer)
        if number % 100 == 0:
            print(number, flush=True)
"""
    chance = random.Random(3)
    path = tmp_path / "journal"
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        writer.stdout.readline()
        time.sleep(chance.uniform(0.1, 0.5))
        os.kill(writer.pid, signal.SIGKILL)
        lines = writer.stdout.read().split()
    printed = int(lines[-1]) if lines else 0
    with Journal(path, {"model": "a"}) as journal:
        count = journal.count()
        assert count >= printed - UNCOMMITTED
        assert all(journal.get(number.to_bytes(8, "big")) for number in range(0, count, 97))
