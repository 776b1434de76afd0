"""Tests the command `calibrate`, and how the other commands use its result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ecellm_lite import load_task
from ecellm_lite.cli.main import run_command
from ecellm_lite.evaluate.fitting import Fit
from ecellm_lite.evaluate.results import DataFile
from ecellm_lite.home import home
from ecellm_lite.models.calibration_files import calibration_path
from ecellm_lite.models.calibrations import Calibration, Measures, read_calibration
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.tasks.task import Task
from tests.support.answer_checks import EXAMPLES
from tests.support.calibrations import ROUTING, calibration_of
from tests.support.commands import answered, refused
from tests.support.labelled_rows import row
from tests.support.tiny_models import write_tiny_model

pytest.importorskip("scipy", reason="fitting a temperature needs the extra 'eval'")

MAIL = '{"mail": "Where is my parcel?"}'


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.slow
def test_an_overconfident_demo_is_calibrated(
    demo_model: StoredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo model answers "very positive" to nearly every review, with high confidence.

    The right answer to each of the test's rows is "neutral".
    """
    monkeypatch.setenv("ECELLM_HOME", str(tmp_path / "home"))
    rows = [{"input": {"review": f"It works, number {number}."}, "output": "C: neutral"} for number in range(10)]
    write_rows(tmp_path / "rows" / "sentiment_analysis" / "test.jsonl", rows)
    question = {**EXAMPLES["answer_generation"], "output": "yes"}
    write_rows(tmp_path / "rows" / "answer_generation" / "test.jsonl", [question])
    model = ["--model", str(demo_model.path), "--threads", "1"]
    assert run_command(["calibrate", "--task", "all", "--data", str(tmp_path / "rows"), *model]) == 0
    output = capsys.readouterr()
    assert "answer_generation" in output.err
    path = calibration_path(Store(), demo_model, "sentiment_analysis")
    calibration = read_calibration(path)
    assert calibration is not None
    assert str(path) in output.out
    assert calibration.rows == 10
    assert path == Store().root / "calibration" / demo_model.manifest.sha256 / "sentiment_analysis.json"
    assert calibration.temperature > 2
    assert calibration.after.log_likelihood > calibration.before.log_likelihood
    assert calibration.after.ece < calibration.before.ece
    assert 0 < calibration.least_coverage < 1
    assert calibration.data == "rows/sentiment_analysis/test.jsonl"
    review = ["run", "-t", "SA", "-i", '{"review": "It works, but it is loud."}', *model]
    plain, answer = answered(capsys, *review, "--calibration", "off"), answered(capsys, *review)
    assert (plain["calibration"], answer["calibration"]) == (None, calibration.name)
    assert plain["value"] == answer["value"]
    assert answer["probability"] < plain["probability"]


# The rest run on a fast model of random weights and an own task with short rows.


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoredModel]:
    """Yield a model in a new store. Only the tests of this file use this store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECELLM_HOME", str(tmp_path_factory.mktemp("calibrated")))
        file = write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", context=1024)
        yield Store().add(file, "tiny", "alpaca")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("tasks") / "routing.toml"
    file.write_text(ROUTING)
    return str(file)


@pytest.fixture(scope="module")
def rows(model: StoredModel, task: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write rows that are labelled with the model's own answers, so the model is always right.

    Every second row names the task in its field `task`.
    """
    from ecellm_lite import Runtime

    mails = [{"mail": f"mail {number}"} for number in range(24)]
    with Runtime("tiny") as runtime:
        texts = [answer.text for answer in runtime.answers(load_task(task), mails, calibration=False)]
    path = tmp_path_factory.mktemp("rows") / "mails.jsonl"
    labelled = [{"input": mail, "output": text} for mail, text in zip(mails, texts, strict=True)]
    write_rows(path, [{"task": "routing", **one} if place % 2 else one for place, one in enumerate(labelled)])
    return path


@pytest.fixture(scope="module")
def path(model: StoredModel) -> Path:
    return calibration_path(Store(), model, "routing")


@pytest.fixture(scope="module")
def fresh_calibration(task: str, rows: Path, path: Path) -> Calibration:
    """Run the command `calibrate` on the rows, and return the calibration that it writes to `path`."""
    assert run_command(["calibrate", "--task", task, "--data", str(rows), "--quiet"]) == 0
    calibration = read_calibration(path)
    assert calibration is not None
    return calibration


@pytest.fixture
def calibrated(fresh_calibration: Calibration, path: Path) -> Calibration:
    fresh_calibration.write(path)
    return fresh_calibration


def test_a_custom_task_is_calibrated(
    calibrated: Calibration, path: Path, model: StoredModel, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    assert path == model.path.parent / "calibration" / "routing.json"
    assert (calibrated.scope.task, calibrated.scope.model) == ("routing", model.manifest.sha256)
    assert (calibrated.rows, calibrated.data) == (24, "mails.jsonl")
    assert calibrated.temperature < 0.2
    answer = answered(capsys, "run", "-t", task, "-i", MAIL)
    assert answer["calibration"] == calibrated.name
    plain = answered(capsys, "run", "-t", task, "-i", MAIL, "--calibration", "off")
    assert answer["probability"] > plain["probability"]
    assert answered(capsys, "models", "show", "tiny", "--json")["calibrations"] == [calibrated.name]


def test_a_custom_task_is_chosen_by_name_from_a_file_of_several_tasks(
    model: StoredModel, capsys: pytest.CaptureFixture[str], task: str, rows: Path, tmp_path: Path
) -> None:
    others = [{**row("sentiment_analysis", 1), "task": name} for name in ("SA", "sorting")]
    own = [{**json.loads(line), "task": " Routing "} for line in rows.read_text().splitlines()]
    mixed = write_rows(tmp_path / "rows.jsonl", [others[0], *own, others[1]])
    place = home() / "tasks" / "routing.toml"
    place.parent.mkdir()
    shutil.copy(task, place)
    capsys.readouterr()
    assert run_command(["calibrate", "-t", "routing", "--data", mixed, "--dry-run", "--json", "--quiet"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["tasks"][0]["fit"]["rows"] == 24
    [left_out] = [line for line in output.err.splitlines() if "sorting" in line]
    assert left_out.startswith("2 ")
    place.unlink()


def test_run_abstains_and_a_job_counts_abstentions(
    model: StoredModel, task: str, rows: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    unsure = ["--calibration", "off", "--min-probability", "0.99"]
    answer = answered(capsys, "run", "-t", task, "-i", MAIL, *unsure)
    assert (answer["value"], answer["text"], answer["abstained"], answer["error"]) == (None, None, True, None)
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    mails = tmp_path / "mails.jsonl"
    mails.write_text("".join(json.dumps(json.loads(line)["input"]) + "\n" for line in rows.read_text().splitlines()))
    output = tmp_path / "answers.jsonl"
    assert run_command(["run", "-t", task, "--rows", str(mails), "--output", str(output), *unsure]) == 0
    assert "24" in capsys.readouterr().err.splitlines()[-1]
    assert [json.loads(line)["abstained"] for line in output.read_text().splitlines()] == [True] * 24
    assert "min-probability" in refused(capsys, 2, "run", "-t", task, "-i", MAIL, "--min-probability", "2")


def test_a_named_calibration_is_used_or_refused(
    calibrated: Calibration, capsys: pytest.CaptureFixture[str], tmp_path: Path, task: str
) -> None:
    named = tmp_path / "mine.json"
    arguments = ["run", "-t", task, "-i", MAIL, "--calibration", str(named)]
    replace(calibrated, temperature=1.5).write(named)
    assert answered(capsys, *arguments)["calibration"] == replace(calibrated, temperature=1.5).name
    replace(calibrated, scope=replace(calibrated.scope, model="6" * 64)).write(named)
    assert "66666666" in refused(capsys, 4, *arguments)
    replace(calibrated, scope=replace(calibrated.scope, instruction="6" * 64)).write(named)
    refused(capsys, 2, *arguments)
    named.write_text("{")
    assert str(named) in refused(capsys, 4, *arguments)
    named.unlink()
    assert str(named) in refused(capsys, 4, *arguments)


def test_a_calibration_that_does_not_apply_is_skipped_with_one_warning(
    calibrated: Calibration, capsys: pytest.CaptureFixture[str], path: Path, task: str, tmp_path: Path
) -> None:
    replace(calibrated, scope=replace(calibrated.scope, instruction="6" * 64)).write(path)
    mails = write_rows(tmp_path / "given.jsonl", [{"mail": "one"}, {"mail": "two"}])
    capsys.readouterr()
    assert run_command(["run", "-t", task, "--rows", mails]) == 0
    output = capsys.readouterr()
    assert sum("routing" in line for line in output.err.splitlines()) == 1
    assert [json.loads(line)["calibration"] for line in output.out.splitlines()] == [None, None]
    assert run_command(["run", "-t", task, "--rows", mails, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    calibrated.write(path)
    assert run_command(["run", "-t", task, "--rows", mails, "--instruction", "Well?"]) == 0
    output = capsys.readouterr()
    assert sum("routing" in line for line in output.err.splitlines()) == 1
    assert [json.loads(line)["calibration"] for line in output.out.splitlines()] == [None, None]
    command = ["run", "-t", task, "--rows", mails, "--calibration", str(path), "--quiet"]
    assert "routing" in refused(capsys, 2, *command, "--instruction", "Well?")


def test_each_tasks_calibration_is_stored_before_the_next_task_begins(
    model: StoredModel, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ecellm_lite.evaluate import calibrating

    for name in ("product_matching", "product_substitute_identification"):
        write_rows(tmp_path / name / "test.jsonl", [row(name, number) for number in range(3)])
    scope = replace(calibration_of("product_matching").scope, model=model.manifest.sha256)
    measures = Measures(-1.0, 0.1, 0.1)
    fit = Fit(2.0, 0.0, 24, gain=0.2, error=0.01, log_ratio=5.0, before=measures, after=measures, least_coverage=0.1)

    def calibrate_task(
        runtime: object, task: Task, rows: object, data: DataFile, **_: object
    ) -> calibrating.CalibrationResult:
        if task.name != "product_matching":
            raise KeyboardInterrupt
        return calibrating.CalibrationResult(scope, data, fit, None, 0, 0)

    monkeypatch.setattr(calibrating, "calibrate_task", calibrate_task)
    path = calibration_path(Store(), model, "product_matching")
    assert run_command(["calibrate", "-t", "all", "--data", str(tmp_path), "--quiet"]) != 0
    assert str(path) in capsys.readouterr().out
    calibration = read_calibration(path)
    assert calibration is not None
    assert (calibration.temperature, calibration.data) == (2.0, f"{tmp_path.name}/product_matching/test.jsonl")
    path.unlink()


def test_a_dry_run_finds_the_same_and_stores_nothing(
    calibrated: Calibration, capsys: pytest.CaptureFixture[str], path: Path, task: str, rows: Path
) -> None:
    path.unlink()
    capsys.readouterr()
    report = answered(capsys, "calibrate", "-t", task, "--data", str(rows), "--dry-run", "--json")
    assert report["model"] == {"name": "tiny", "sha256": calibrated.scope.model}
    [one] = report["tasks"]
    assert one["fit"]["temperature"] == pytest.approx(calibrated.temperature, rel=0.05)
    assert (one["refusal"], one["kept"], one["failed"], one["others"]) == (None, None, 0, 0)
    assert not path.exists()
    assert run_command(["calibrate", "-t", task, "--data", str(rows), "--dry-run"]) == 0
    assert str(path) not in capsys.readouterr().out
    assert not path.exists()


def test_ten_rows_are_too_few_and_unreadable_lines_are_reported(
    calibrated: Calibration, capsys: pytest.CaptureFixture[str], tmp_path: Path, path: Path, task: str
) -> None:
    damaged = tmp_path / "given.jsonl"
    lines = [json.dumps({"mail": f"mail {number}", "output": "AB"[number % 2]}) for number in range(10)]
    damaged.write_text("\n".join([*lines[:3], "{broken", json.dumps({"mail": "x", "output": "C"}), *lines[3:]]))
    capsys.readouterr()
    assert run_command(["calibrate", "-t", task, "--data", str(damaged), "--json"]) == 0
    output = capsys.readouterr()
    [result] = json.loads(output.out)["tasks"]
    assert result["fit"]["rows"] == 10
    assert result["refusal"]
    assert result["kept"] is None
    left_out = output.err.splitlines()
    assert [any(f"Line {number} " in line for line in left_out) for number in (3, 4, 5, 6)] == [
        False,
        True,
        True,
        False,
    ]
    assert read_calibration(path) == calibrated
    assert run_command(["calibrate", "-t", task, "--data", str(damaged), "--limit", "6", "--json"]) == 0
    [result] = json.loads(capsys.readouterr().out)["tasks"]
    assert (result["fit"], result["kept"]) == (None, None)
    assert result["refusal"]
    assert read_calibration(path) == calibrated


def test_calibrations_can_be_removed(
    calibrated: Calibration, capsys: pytest.CaptureFixture[str], path: Path, task: str
) -> None:
    capsys.readouterr()
    assert run_command(["calibrate", "-t", task, "--remove"]) == 0
    assert "routing" in capsys.readouterr().out
    assert not path.exists()
    assert run_command(["calibrate", "-t", "all", "--remove"]) == 0
    assert "tiny" in capsys.readouterr().out
    calibrated.write(path)
    assert run_command(["calibrate", "-t", "all", "--remove"]) == 0
    assert not path.exists()


@pytest.mark.usefixtures("model")
def test_wrong_options_are_refused(capsys: pytest.CaptureFixture[str], task: str, rows: Path, tmp_path: Path) -> None:
    assert "--data" in refused(capsys, 2, "calibrate", "-t", task)
    assert "--remove" in refused(capsys, 2, "calibrate", "-t", task, "--data", str(rows), "--remove")
    assert "'nonsense'" in refused(capsys, 2, "calibrate", "-t", "nonsense", "--data", str(rows))
    assert "absent.jsonl" in refused(capsys, 3, "calibrate", "-t", task, "--data", str(tmp_path / "absent.jsonl"))
    generation = write_rows(tmp_path / "AG.jsonl", [{**EXAMPLES["answer_generation"], "output": "yes"}])
    assert "answer_generation" in refused(capsys, 3, "calibrate", "-t", "AG", "--data", generation)


def test_models_show_and_remove_their_calibrations(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECELLM_HOME", str(tmp_path / "home"))
        store = Store()
        model = store.add(write_tiny_model(tmp_path / "tiny.gguf"), "tiny", "alpaca")
        own = calibration_of("sentiment_analysis")
        calibration = replace(own, scope=replace(own.scope, model=model.manifest.sha256))
        calibration.write(calibration_path(store, model, "sentiment_analysis"))
        calibration_of("product_matching").write(calibration_path(store, model, "product_matching"))
        calibration_path(store, model, "routing").write_text("{")
        foreign, damaged, holds = answered(capsys, "models", "show", "tiny", "--json")["calibrations"]
        assert holds == calibration.name
        assert "55555555" in foreign
        assert "routing" in damaged
        assert run_command(["models", "show", "tiny"]) == 0
        assert f"calibrations   {calibration.name}\n" in capsys.readouterr().out
        assert run_command(["models", "remove", "tiny"]) == 0
        assert not model.path.parent.exists()
