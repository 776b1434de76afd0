"""Tests of files with labelled questions: which lines are valid, and how such a file calibrates a question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the server's libraries are in the extra 'server'")

from ecellm_lite import InputError, Runtime
from ecellm_lite.answers.answer import ModelName
from ecellm_lite.cli.main import run_command
from ecellm_lite.engine.fake import FakeBackend, scattered
from ecellm_lite.evaluate.calibrating import calibrate_task
from ecellm_lite.models.calibrations import Calibrations
from ecellm_lite.serve.labelled_decisions import read_labelled_questions
from tests.serve.serving import serving

PREDICATE = {"type": "predicate", "instructions": "Is it late?", "name": "late"}
CHOICE = {"type": "choice", "instructions": "Which desk?", "choices": [{"value": "billing"}, {"value": True}]}
SCORE = {"type": "score", "instructions": "How urgent?", "levels": [{"label": "low"}, {"label": "high"}]}


def line(answers: list[Any], state: Any = "Never came.", questions: Any = (PREDICATE, CHOICE, SCORE)) -> dict[str, Any]:
    return {"model": "demo", "input": state, "questions": list(questions), "answers": answers}


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines), "utf-8")
    return path


def test_each_question_collects_its_rows_from_all_lines(tmp_path: Path) -> None:
    lines = [line([True, True, "high"]), line([False, "billing", 0], "It came."), line([None, None, 1], "Soon?")]
    tasks, unreadable = read_labelled_questions(write(tmp_path / "labelled.jsonl", lines))
    assert unreadable == []
    assert [[(row.line, row.gold) for row in rows] for _, rows, _ in tasks] == [
        [(1, "yes"), (2, "no")],
        [(1, "B"), (2, "A")],
        [(1, "B"), (2, "A"), (3, "B")],
    ]
    assert {file.name for _, _, file in tasks} == {"labelled.jsonl"}
    assert tasks[0].rows[1].row == {"state": "It came."}


@pytest.mark.parametrize(
    "wrong",
    [
        "{",
        [],
        {},
        line([True, True]),
        line([1, True, 0]),
        line([True, 1, 0]),
        line([True, True, True]),
        line([True, True, 2]),
        line([True, True, "mid"]),
        line(["yes", True, 0]),
        line([True, "true", 0]),
        line([True, True, 0], questions=[]),
        line([True, True, 0], [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]),
    ],
)
def test_an_invalid_line_is_reported_and_left_out(tmp_path: Path, wrong: Any) -> None:
    path = write(tmp_path / "labelled.jsonl", [line([True, None, None]), wrong])
    tasks, unreadable = read_labelled_questions(path)
    assert [len(rows) for _, rows, _ in tasks] == [1]
    assert [one.line for one in unreadable] == [2]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_labelled_questions(tmp_path / "none.jsonl")


def test_a_calibrated_question_is_answered_with_its_calibration(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="fitting a temperature needs the extra 'eval'")
    identity = ModelName("fake", "f" * 64)
    # The fake engine knows nothing of desks: whatever it prefers is right in half of the rows.
    lines = [line([number % 2 == 0], f"Parcel {number}.", [PREDICATE]) for number in range(60)]
    [(task, rows, file)], _ = read_labelled_questions(write(tmp_path / "labelled.jsonl", lines))
    folder = tmp_path / "calibration"
    with Runtime.over(FakeBackend(scattered, sequences=64, cells=1 << 14), name=identity) as runtime:
        result = calibrate_task(runtime, task, rows, file)
    assert result.calibration, result.refusal
    result.calibration.write(folder / f"{task.name}.json")
    runtime = Runtime.over(
        FakeBackend(scattered, sequences=64, cells=1 << 14),
        name=identity,
        calibrations=Calibrations(identity.sha256, "alpaca", folder),
    )
    other = {**PREDICATE, "instructions": "Is it about shoes?"}
    with serving(runtime) as server:
        reply = server.post("/v1/decisions", {"model": "fake", "input": "Late.", "questions": [PREDICATE, other]})
        assert reply.headers["X-Ecellm-Calibrated"] == "1/2"
        body = {"model": "fake", "state": "Late.", "questions": {"q": {"type": "noul", "instructions": "Is it late?"}}}
        same = server.post("/v1/systemone", body)
        assert same.headers["X-Ecellm-Calibrated"] == "1/1"
        assert same.json["answers"]["q"]["noul"] == reply.json["answers"][0]["probability"]


def test_the_prompts_of_questions_are_shown_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path / "labelled.jsonl", [line([True, True, 0]), line([False, True, 1], "It came.")]))
    assert run_command(["calibrate", "--question", path, "--show-prompt", "--envelope", "mistral"]) == 0
    output = capsys.readouterr().out
    assert output.count("[INST]") == 3
    assert output.count("Never came.") == 3
    assert "It came." not in output
    for arguments in (["--question", path, "--task", "SA"], ["--question", path, "--data", path], ["--show-prompt"]):
        assert run_command(["calibrate", *arguments]) == 2
