"""Tests that a pipe reads the file of a user's own task once, and again after each change of the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecellm_lite import InputError, Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.pipe.kept_tasks import MOST, KeptTasks
from ecellm_lite.pipe.lines import Output
from ecellm_lite.pipe.session import Session
from ecellm_lite.tasks.custom import read_task
from ecellm_lite.tasks.task import Task
from tests.support.own_tasks import ROUTING

LABELLED = """
name = "desk"
summary = "s"
instruction = "i"
[[fields]]
name = "mail"
[answer]
type = "choice"
labels = { file = "desks.txt" }
"""


def answers_of(task: Task) -> tuple[str, ...]:
    return task.question({"mail": "x"}).space.keys


def test_a_pipe_does_not_read_an_own_task_for_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "support_routing.toml"
    path.write_text(ROUTING)
    reads: list[Path] = []

    def counted(path: Path, reserved: tuple[str, ...]) -> Task:
        reads.append(path)
        return read_task(path, reserved)

    monkeypatch.setattr("ecellm_lite.tasks.registry.read_task", counted)
    written: list[bytes] = []
    output = Output(written.append)
    lines: Iterator[bytes] = (
        json.dumps({"id": number, "task": str(path), "row": {"mail": "x"}}).encode() for number in range(20)
    )
    with Runtime.over(FakeBackend()) as runtime:
        Session(runtime, output).run(lines)
    assert output.close(10)
    assert sum(json.loads(line)["type"] == "answer" for line in written) == 20
    assert len(reads) == 2


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path, labels = tmp_path / "desk.toml", tmp_path / "desks.txt"
    path.write_text(LABELLED)
    labels.write_text("billing\ndelivery\n")
    tasks = KeptTasks()
    task = tasks.get(str(path))
    assert tasks.get(str(path)) is task
    assert set(answers_of(task)) == {"billing", "delivery"}
    labels.write_text("billing\nreturns of goods\n")
    assert set(answers_of(tasks.get(str(path)))) == {"billing", "returns of goods"}
    path.write_text(LABELLED.replace('"i"', '"Choose."'))
    assert tasks.get(str(path)).instruction == "Choose."
    labels.unlink()
    with pytest.raises(InputError):
        tasks.get(str(path))


def test_only_the_latest_tasks_are_kept(tmp_path: Path) -> None:
    tasks = KeptTasks()
    names = [f"desk_{number}" for number in range(MOST + 1)]
    for name in names:
        (tmp_path / f"{name}.toml").write_text(ROUTING.replace("support_routing", name))
    first, *_, last = [tasks.get(str(tmp_path / f"{name}.toml")) for name in names]
    assert tasks.get(str(tmp_path / f"{names[-1]}.toml")) is last
    assert tasks.get(str(tmp_path / f"{names[0]}.toml")) is not first
