"""Tests the commands with two models: `run --escalate-below`, and `calibrate --target-agreement`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import Runtime
from ecellm_lite import runtime as runtime_module
from ecellm_lite.answers.answer import ModelName
from ecellm_lite.answers.decoding import Logits
from ecellm_lite.cli.main import run_command
from ecellm_lite.engine.fake import FakeBackend, scattered
from ecellm_lite.envelopes import envelope_step
from ecellm_lite.errors import UsageError
from ecellm_lite.models.calibrations import Calibrations
from tests.support.calibrations import SHA256, calibration_of
from tests.support.commands import REVIEW, answered, refused
from tests.support.labelled_rows import row, write_lines

CALIBRATE = ("calibrate", "-t", "PM", "--model", "small,large", "--target-agreement", "0.9", "--quiet")


def better(tokens: Sequence[int]) -> Logits:
    return 3 * scattered(tokens)


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Load fake engines. The model `large` has half the context of the other models."""

    def fake(*, model: str, **_: Any) -> Runtime:
        backend = FakeBackend(better, cells=2048) if model == "large" else FakeBackend()
        calibrations = Calibrations(SHA256, "alpaca", tmp_path)
        return Runtime.over(backend, name=ModelName(model, SHA256), calibrations=calibrations)

    monkeypatch.setattr(runtime_module, "Runtime", fake)


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    labelled = [row("product_matching", number) for number in range(120)]
    return [
        {**each, "input": {**each["input"], "product_1": {"title": f"cup {number}"}}}
        for number, each in enumerate(labelled)
    ]


def test_a_threshold_is_found_for_two_models(
    rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(write_lines(tmp_path / "rows.jsonl", rows))
    report = answered(capsys, *CALIBRATE, "--data", data, "--json")
    assert report["models"] == ["small", "large"]
    task = report["tasks"]["product_matching"]
    assert task["rows"] == 120
    assert task["chosen"]["agreement"] >= 0.9
    for names in ("small,medium,large", "small", "small,"):
        assert "--target-agreement" in refused(capsys, 2, *CALIBRATE, "--data", data, "--model", names)


def test_lines_that_cannot_be_used_are_shown_and_nothing_left_is_an_error(
    rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "rows.jsonl"
    write_lines(data, [*rows[:3], "{broken", *rows[3:], {**rows[0], "output": "perhaps"}])
    assert run_command([*CALIBRATE, "--data", str(data)]) == 0
    output = capsys.readouterr()
    assert [any(f"Line {number} " in line for line in output.err.splitlines()) for number in (3, 4, 122)] == [
        False,
        True,
        True,
    ]
    assert "120" in output.out
    write_lines(data, ["{broken", {**rows[0], "output": "perhaps"}])
    assert run_command([*CALIBRATE, "--data", str(data)]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert str(data) in lines[-1]
    assert len(lines) == 3


def test_rows_that_are_too_long_for_one_model_count(
    rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = [{**each, "input": {**each["input"], "product_2": {"title": "word " * 500}}} for each in rows[:10]]
    data = str(write_lines(tmp_path / "rows.jsonl", [*rows, *long]))
    for names in ("small,large", "large,small"):
        report = answered(capsys, *CALIBRATE, "--data", data, "--json", "--model", names)
        assert report["tasks"]["product_matching"]["rows"] == 130


@pytest.mark.parametrize("option", [["--coverage-guarantee", "0.9"], ["--dry-run"], ["--target-precision", "0.9"]])
def test_options_that_fit_a_calibration_have_no_meaning_for_two_models(
    option: list[str], rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, 2, *CALIBRATE, "--data", str(write_lines(tmp_path / "rows.jsonl", rows)), *option)


@pytest.mark.parametrize("form", ["--input", "--rows"])
def test_run_says_of_each_model_that_its_calibration_is_not_used(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibration_of("sentiment_analysis").write(tmp_path / "sentiment_analysis.json")
    value = REVIEW if form == "--input" else str(write_lines(tmp_path / "rows.jsonl", [REVIEW]))
    command = ["run", "-t", "SA", form, value, "--model", "small,large", "--escalate-below", "0.5"]
    assert run_command(command) == 0
    assert "sentiment_analysis" not in capsys.readouterr().err
    assert run_command([*command, "--instruction", "Well?"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "sentiment_analysis" in line]
    assert [line.split(":")[0] for line in lines] == ["small", "large"]
    assert run_command([*command, "--instruction", "Well?", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (["--adapter", "shop=a.gguf"], "--adapter"),
        (["--calibration", "a.json"], "--calibration"),
        (["--escalate-below", "nan"], "--escalate-below"),
    ],
)
def test_what_does_not_fit_a_cascade_is_refused_before_a_model_is_loaded(
    option: list[str], named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime_module, "Runtime", None)
    command = ["run", "-t", "SA", "-i", REVIEW, "--model", "small,large", "--escalate-below", "0.5"]
    assert named in refused(capsys, 2, *command, *option)


def test_several_models_without_a_threshold_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime_module, "Runtime", None)
    command = ["run", "-t", "SA", "-i", REVIEW, "--model", "small,large"]
    assert "--escalate-below" in refused(capsys, 2, *command)


def test_a_job_that_one_model_of_a_cascade_answered_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_lines(tmp_path / "rows.jsonl", [{"review": f"good {number}"} for number in range(3)])
    command = ["run", "-t", "SA", "--rows", str(rows), "--output", str(tmp_path / "out.csv")]
    assert run_command([*command, "--model", "small,large", "--escalate-below", "1"]) == 0
    assert "3 by large (100%)" in capsys.readouterr().err


def test_a_model_without_an_envelope_is_to_be_stored_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake(**_: Any) -> Runtime:
        raise UsageError("It does not say its envelope", step=envelope_step(), settings=("envelope",))

    monkeypatch.setattr(runtime_module, "Runtime", fake)
    command = ["run", "-t", "SA", "-i", REVIEW, "--model", "small,large.gguf", "--escalate-below", "0.5"]
    assert "models add large.gguf" in refused(capsys, 2, *command)
