"""The command `calibrate`, and what it leaves behind for the other commands; on the demo model, with made-up rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.cli.main import run_command
from ecellm_lite.models.calibrations import Calibration, calibration_path, read_calibration
from ecellm_lite.models.store import Store, StoredModel
from tests.answer_checks import EXAMPLES
from tests.test_calibration import calibration_of
from tests.test_cli import answered, refused
from tests.tiny_models import write_tiny_model

pytest.importorskip("scipy", reason="fitting a temperature needs the extra 'eval'")

LABELS = ("A: very positive", "B: positive", "C: neutral", "D: negative", "E: very negative")
REVIEWS = ("A fine kettle.", "Too loud for me.", "It does what it should.", "Broke in a week.", "Best buy this year.")
REVIEW = '{"review": "It works, but it is loud."}'

# The demo takes nearly everything for very positive, and is sure of it: what people say of these reviews is spread.
ROWS = [
    {"id": number, "input": {"review": f"{REVIEWS[number % 5]} Number {number}."}, "output": LABELS[number * 2 % 5]}
    for number in range(24)
]


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory, demo_model: StoredModel) -> Iterator[Store]:
    """A store of these tests' own, in which the demo's file is one that was given by its path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECELLM_HOME", str(tmp_path_factory.mktemp("calibrated")))
        patch.setenv("ECELLM_MODEL", str(demo_model.path))
        yield Store()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of labelled rows for two tasks."""
    folder = tmp_path_factory.mktemp("rows")
    question = {**EXAMPLES["answer_generation"], "output": "yes"}
    for task, rows in (("sentiment_analysis", ROWS), ("answer_generation", [question])):
        (folder / task).mkdir()
        (folder / task / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def path(store: Store, demo_model: StoredModel) -> Path:
    return calibration_path(store, demo_model, "sentiment_analysis")


@pytest.fixture(scope="module")
def calibrated(data: Path, path: Path) -> Calibration:
    """The demo, calibrated by the command."""
    assert run_command(["calibrate", "--task", "all", "--data", str(data), "--quiet"]) == 0
    kept = read_calibration(path)
    assert kept is not None
    return kept


def test_what_it_keeps(calibrated: Calibration, demo_model: StoredModel, store: Store, path: Path) -> None:
    assert path == store.root / "calibration" / demo_model.manifest.sha256 / "sentiment_analysis.json"
    assert [one.name for one in path.parent.iterdir()] == ["sentiment_analysis.json"]
    assert calibrated.temperature > 2
    assert calibrated.rows == len(ROWS)
    assert calibrated.after.log_likelihood > calibrated.before.log_likelihood
    assert calibrated.after.ece < calibrated.before.ece
    assert 0 < calibrated.least_coverage < 1
    assert calibrated.data.endswith("sentiment_analysis/test.jsonl")


def test_run_takes_it_by_itself_and_says_so(calibrated: Calibration, capsys: pytest.CaptureFixture[str]) -> None:
    plain = answered(capsys, "run", "-t", "SA", "-i", REVIEW, "--calibration", "off")
    answer = answered(capsys, "run", "-t", "SA", "-i", REVIEW)
    assert (plain["calibration"], answer["calibration"]) == (None, calibrated.name)
    assert plain["value"] == answer["value"]
    assert answer["probability"] < plain["probability"]
    assert capsys.readouterr().err == ""


def test_run_abstains_and_a_job_counts_it(
    calibrated: Calibration, capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path
) -> None:
    answer = answered(capsys, "run", "-t", "SA", "-i", REVIEW, "--min-probability", "0.99")
    assert (answer["value"], answer["text"], answer["abstained"], answer["error"]) == (None, None, True, None)
    assert answer["probabilities"]
    output = tmp_path / "answers.jsonl"
    arguments = ["--rows", str(data / "sentiment_analysis" / "test.jsonl"), "--output", str(output)]
    assert run_command(["run", "-t", "SA", *arguments, "--min-probability", "0.99"]) == 0
    assert "24 rows in " in (summary := capsys.readouterr().err)
    assert summary.endswith("0 failed, 24 abstained.\n")
    assert all(json.loads(line)["abstained"] for line in output.read_text().splitlines())
    assert "min-probability" in refused(capsys, 2, "run", "-t", "SA", "-i", REVIEW, "--min-probability", "2")


def test_a_named_one_is_taken_or_refused(
    calibrated: Calibration, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    named = tmp_path / "mine.json"
    replace(calibrated, temperature=1.5).write(named)
    assert " T=1.5 " in answered(capsys, "run", "-t", "SA", "-i", REVIEW, "--calibration", str(named))["calibration"]
    replace(calibrated, scope=replace(calibrated.scope, model="6" * 64)).write(named)
    assert "66666666" in refused(capsys, 4, "run", "-t", "SA", "-i", REVIEW, "--calibration", str(named))
    replace(calibrated, scope=replace(calibrated.scope, instruction="6" * 64)).write(named)
    sentence = refused(capsys, 2, "run", "-t", "SA", "-i", REVIEW, "--calibration", str(named))
    assert "another instruction" in sentence
    named.write_text("{")
    assert "damaged" in refused(capsys, 4, "run", "-t", "SA", "-i", REVIEW, "--calibration", str(named))
    named.unlink()
    assert "no calibration" in refused(capsys, 4, "run", "-t", "SA", "-i", REVIEW, "--calibration", str(named))


def test_one_that_does_not_hold_is_left_alone_and_told_of_once(
    calibrated: Calibration, capsys: pytest.CaptureFixture[str], path: Path, data: Path
) -> None:
    replace(calibrated, scope=replace(calibrated.scope, instruction="6" * 64)).write(path)
    try:
        arguments = ["run", "-t", "SA", "--rows", str(data / "sentiment_analysis" / "test.jsonl")]
        assert run_command(arguments) == 0
        output = capsys.readouterr()
        assert output.err.count("is not used: the task has another instruction") == 1
        assert {json.loads(line)["calibration"] for line in output.out.splitlines()} == {None}
        assert run_command([*arguments, "--quiet"]) == 0
        assert capsys.readouterr().err == ""
    finally:
        calibrated.write(path)


def test_a_dry_run_keeps_nothing_and_finds_the_same(
    calibrated: Calibration, capsys: pytest.CaptureFixture[str], path: Path, data: Path
) -> None:
    before = path.stat().st_mtime_ns
    found = answered(
        capsys,
        "calibrate",
        "-t",
        "SA",
        "--data",
        str(data / "sentiment_analysis" / "test.jsonl"),
        "--dry-run",
        "--json",
    )
    assert found["model"]["sha256"] == calibrated.scope.model
    [task] = found["tasks"]
    assert task["fit"]["temperature"] == pytest.approx(calibrated.temperature, rel=0.05)
    assert (task["refusal"], task["kept"], task["failed"], task["others"]) == (None, None, 0, 0)
    assert path.stat().st_mtime_ns == before


def test_ten_rows_of_a_model_that_is_right_are_not_enough(
    calibrated: Calibration, capsys: pytest.CaptureFixture[str], tmp_path: Path, path: Path
) -> None:
    """Ten rows that are labelled with what the demo says: a sharper temperature fits them, and is not kept."""
    rows = [{"review": row["input"]["review"]} for row in ROWS[:10]]  # type: ignore[index]
    given = tmp_path / "given.jsonl"
    given.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run_command(["run", "-t", "SA", "--rows", str(given), "--quiet"]) == 0
    said = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    lines = [json.dumps({**row, "output": text}) for row, text in zip(rows, said, strict=True)]
    given.write_text("\n".join([*lines[:3], "{broken", json.dumps({"review": "x", "output": "F: odd"}), *lines[3:]]))
    assert run_command(["calibrate", "-t", "SA", "--data", str(given)]) == 0
    output = capsys.readouterr()
    assert "fitted to 10 rows" in output.out
    assert "not kept: rows that it was not fitted on become" in output.out
    assert "already stays in use" in output.out
    assert "Line 4 is left out: " in output.err
    assert "Line 5 is left out: " in output.err
    assert read_calibration(path) == calibrated
    assert run_command(["calibrate", "-t", "SA", "--data", str(given), "--limit", "6"]) == 0
    assert "not kept: A temperature takes at least 10 rows, and here are 6" in capsys.readouterr().out


def test_it_can_be_taken_away(calibrated: Calibration, capsys: pytest.CaptureFixture[str], path: Path) -> None:
    try:
        assert run_command(["calibrate", "-t", "SA", "--remove"]) == 0
        assert capsys.readouterr().out == "The calibration of sentiment_analysis is removed.\n"
        assert not path.exists()
        assert run_command(["calibrate", "-t", "all", "--remove"]) == 0
        assert "has no calibration" in capsys.readouterr().out
    finally:
        calibrated.write(path)
    assert run_command(["calibrate", "-t", "all", "--remove"]) == 0
    assert not path.exists()
    calibrated.write(path)


def test_wrong_usage(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    rows = str(data / "sentiment_analysis" / "test.jsonl")
    assert "--data" in refused(capsys, 2, "calibrate", "-t", "SA")
    assert "--remove" in refused(capsys, 2, "calibrate", "-t", "SA", "--data", rows, "--remove")
    assert "no task" in refused(capsys, 2, "calibrate", "-t", "nonsense", "--data", rows)
    assert "cannot be read" in refused(capsys, 3, "calibrate", "-t", "SA", "--data", str(tmp_path / "absent.jsonl"))
    generation = str(data / "answer_generation" / "test.jsonl")
    assert "nothing to calibrate" in refused(capsys, 3, "calibrate", "-t", "AG", "--data", generation)


def test_models_show_and_remove_them(capsys: pytest.CaptureFixture[str], tmp_path: Path, store: Store) -> None:
    model = store.add(write_tiny_model(tmp_path / "tiny.gguf"), "tiny", "alpaca")
    own = calibration_of("sentiment_analysis")
    held = replace(own, scope=replace(own.scope, model=model.manifest.sha256))
    held.write(calibration_path(store, model, "sentiment_analysis"))
    calibration_of("product_matching").write(calibration_path(store, model, "product_matching"))
    calibration_path(store, model, "routing").write_text("{")
    shown: Any = answered(capsys, "models", "show", "tiny", "--json")["calibrations"]
    foreign, damaged, holds = shown
    assert holds == held.name
    assert "is not used: it is for the model 55555555" in foreign
    assert "is damaged" in damaged
    assert run_command(["models", "show", "tiny"]) == 0
    assert f"calibrations   {held.name}\n" in capsys.readouterr().out
    assert run_command(["models", "remove", "tiny"]) == 0
    assert not calibration_path(store, model, "sentiment_analysis").exists()
