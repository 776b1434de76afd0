"""The command `calibrate`, and what it leaves behind for the other commands."""

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
from ecellm_lite.models.calibrations import Calibration, Measures, calibration_path, read_calibration
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.tasks.task import Task
from tests.cli.test_run import answered, refused
from tests.support.answer_checks import EXAMPLES
from tests.support.calibrations import ROUTING, calibration_of
from tests.support.labelled_rows import row
from tests.support.tiny_models import write_tiny_model

pytest.importorskip("scipy", reason="fitting a temperature needs the extra 'eval'")

MAIL = '{"mail": "Where is my parcel?"}'


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_demo_is_calibrated_where_it_is_too_sure(
    demo_model: StoredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo takes nearly every review for very positive, and is sure of it; here nobody was."""
    monkeypatch.setenv("ECELLM_HOME", str(tmp_path / "home"))
    rows = [{"input": {"review": f"It works, number {number}."}, "output": "C: neutral"} for number in range(10)]
    write_rows(tmp_path / "rows" / "sentiment_analysis" / "test.jsonl", rows)
    question = {**EXAMPLES["answer_generation"], "output": "yes"}
    write_rows(tmp_path / "rows" / "answer_generation" / "test.jsonl", [question])
    model = ["--model", str(demo_model.path), "--threads", "1"]
    assert run_command(["calibrate", "--task", "all", "--data", str(tmp_path / "rows"), *model]) == 0
    output = capsys.readouterr()
    assert "answer_generation has answers of type text, without a probability" in output.err
    assert "fitted to 10 rows" in output.out
    path = calibration_path(Store(), demo_model, "sentiment_analysis")
    kept = read_calibration(path)
    assert kept is not None
    assert f"kept in {path}" in output.out
    assert path == Store().root / "calibration" / demo_model.manifest.sha256 / "sentiment_analysis.json"
    assert kept.temperature > 2
    assert kept.after.log_likelihood > kept.before.log_likelihood
    assert kept.after.ece < kept.before.ece
    assert 0 < kept.least_coverage < 1
    assert kept.data == "rows/sentiment_analysis/test.jsonl"
    review = ["run", "-t", "SA", "-i", '{"review": "It works, but it is loud."}', *model]
    plain, answer = answered(capsys, *review, "--calibration", "off"), answered(capsys, *review)
    assert (plain["calibration"], answer["calibration"]) == (None, kept.name)
    assert plain["value"] == answer["value"]
    assert answer["probability"] < plain["probability"]


# The rest on a model of random weights, which is fast, and a task of one's own, whose rows are short.


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoredModel]:
    """The only model in a store of these tests' own."""
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
    """Rows labelled with what the model says, half of which name their task: it is right each time, and surer."""
    from ecellm_lite import Runtime

    mails = [{"mail": f"mail {number}"} for number in range(24)]
    with Runtime("tiny") as runtime:
        said = [answer.text for answer in runtime.answers(load_task(task), mails, calibration=False)]
    path = tmp_path_factory.mktemp("rows") / "mails.jsonl"
    labelled = [{"input": mail, "output": text} for mail, text in zip(mails, said, strict=True)]
    write_rows(path, [{"task": "routing", **one} if place % 2 else one for place, one in enumerate(labelled)])
    return path


@pytest.fixture(scope="module")
def path(model: StoredModel) -> Path:
    return calibration_path(Store(), model, "routing")


@pytest.fixture(scope="module")
def made(task: str, rows: Path, path: Path) -> Calibration:
    """What the command finds for the model."""
    assert run_command(["calibrate", "--task", task, "--data", str(rows), "--quiet"]) == 0
    kept = read_calibration(path)
    assert kept is not None
    return kept


@pytest.fixture
def calibrated(made: Calibration, path: Path) -> Calibration:
    """The model has it, whatever the last test did."""
    made.write(path)
    return made


def test_a_task_of_ones_own_is_calibrated(
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


def test_a_task_of_ones_own_is_calibrated_by_its_name_from_a_file_of_several(
    model: StoredModel, capsys: pytest.CaptureFixture[str], task: str, rows: Path, tmp_path: Path
) -> None:
    others = [{**row("sentiment_analysis", 1), "task": name} for name in ("SA", "sorting")]
    own = [{**json.loads(line), "task": " Routing "} for line in rows.read_text().splitlines()]
    given = write_rows(tmp_path / "rows.jsonl", [others[0], *own, others[1]])
    place = home() / "tasks" / "routing.toml"
    place.parent.mkdir()
    shutil.copy(task, place)
    capsys.readouterr()
    assert run_command(["calibrate", "-t", "routing", "--data", given, "--dry-run", "--json", "--quiet"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["tasks"][0]["fit"]["rows"] == 24
    [left_out] = [line for line in output.err.splitlines() if "is left out" in line]
    assert "Line 26" in left_out
    assert "'sorting'" in left_out
    place.unlink()


def test_run_abstains_and_a_job_counts_it(
    model: StoredModel, task: str, rows: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    unsure = ["--calibration", "off", "--min-probability", "0.99"]
    answer = answered(capsys, "run", "-t", task, "-i", MAIL, *unsure)
    assert (answer["value"], answer["text"], answer["abstained"], answer["error"]) == (None, None, True, None)
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    given = tmp_path / "mails.jsonl"
    given.write_text("".join(json.dumps(json.loads(line)["input"]) + "\n" for line in rows.read_text().splitlines()))
    output = tmp_path / "answers.jsonl"
    assert run_command(["run", "-t", task, "--rows", str(given), "--output", str(output), *unsure]) == 0
    assert capsys.readouterr().err.endswith("0 failed, 24 abstained.\n")
    assert all(json.loads(line)["abstained"] for line in output.read_text().splitlines())
    assert "min-probability" in refused(capsys, 2, "run", "-t", task, "-i", MAIL, "--min-probability", "2")


def test_a_named_one_is_taken_or_refused(
    calibrated: Calibration, capsys: pytest.CaptureFixture[str], tmp_path: Path, task: str
) -> None:
    named = tmp_path / "mine.json"
    arguments = ["run", "-t", task, "-i", MAIL, "--calibration", str(named)]
    replace(calibrated, temperature=1.5).write(named)
    assert answered(capsys, *arguments)["calibration"].startswith("routing T=1.5 (24 rows, ")
    replace(calibrated, scope=replace(calibrated.scope, model="6" * 64)).write(named)
    assert "66666666" in refused(capsys, 4, *arguments)
    replace(calibrated, scope=replace(calibrated.scope, instruction="6" * 64)).write(named)
    assert "another instruction" in refused(capsys, 2, *arguments)
    named.write_text("{")
    assert "damaged" in refused(capsys, 4, *arguments)
    named.unlink()
    assert "no calibration" in refused(capsys, 4, *arguments)


def test_one_that_does_not_hold_is_left_alone_and_told_of_once(
    calibrated: Calibration, capsys: pytest.CaptureFixture[str], path: Path, task: str, tmp_path: Path
) -> None:
    replace(calibrated, scope=replace(calibrated.scope, instruction="6" * 64)).write(path)
    given = write_rows(tmp_path / "given.jsonl", [{"mail": "one"}, {"mail": "two"}])
    capsys.readouterr()
    assert run_command(["run", "-t", task, "--rows", given]) == 0
    output = capsys.readouterr()
    assert output.err.count("is not used: the task has another instruction") == 1
    assert [json.loads(line)["calibration"] for line in output.out.splitlines()] == [None, None]
    assert run_command(["run", "-t", task, "--rows", given, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    calibrated.write(path)
    assert run_command(["run", "-t", task, "--rows", given, "--instruction", "Well?"]) == 0
    assert (
        capsys.readouterr().err.count("The calibration of routing is not used: it was fitted with the task's own") == 1
    )
    asked = ["run", "-t", task, "--rows", given, "--calibration", str(path), "--quiet"]
    assert "another is given" in refused(capsys, 2, *asked, "--instruction", "Well?")


def test_what_a_task_came_to_is_kept_before_the_next_is_answered(
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
    assert f"kept in {path}" in capsys.readouterr().out
    kept = read_calibration(path)
    assert kept is not None
    assert (kept.temperature, kept.data) == (2.0, f"{tmp_path.name}/product_matching/test.jsonl")
    path.unlink()


def test_a_dry_run_keeps_nothing_and_finds_the_same(
    calibrated: Calibration, capsys: pytest.CaptureFixture[str], path: Path, task: str, rows: Path
) -> None:
    path.unlink()
    capsys.readouterr()
    found = answered(capsys, "calibrate", "-t", task, "--data", str(rows), "--dry-run", "--json")
    assert found["model"] == {"name": "tiny", "sha256": calibrated.scope.model}
    [one] = found["tasks"]
    assert one["fit"]["temperature"] == pytest.approx(calibrated.temperature, rel=0.05)
    assert (one["refusal"], one["kept"], one["failed"], one["others"]) == (None, None, 0, 0)
    assert not path.exists()
    assert run_command(["calibrate", "-t", task, "--data", str(rows), "--dry-run"]) == 0
    assert "would be kept" in capsys.readouterr().out


def test_ten_rows_are_not_enough_and_odd_lines_are_told_of(
    calibrated: Calibration, capsys: pytest.CaptureFixture[str], tmp_path: Path, path: Path, task: str
) -> None:
    given = tmp_path / "given.jsonl"
    lines = [json.dumps({"mail": f"mail {number}", "output": "AB"[number % 2]}) for number in range(10)]
    given.write_text("\n".join([*lines[:3], "{broken", json.dumps({"mail": "x", "output": "C"}), *lines[3:]]))
    capsys.readouterr()
    assert run_command(["calibrate", "-t", task, "--data", str(given)]) == 0
    output = capsys.readouterr()
    assert "fitted to 10 rows" in output.out
    assert "not kept: " in output.out
    assert "existing calibration stays in use" in output.out
    assert "Line 4 is left out: " in output.err
    assert "Line 5 is left out: " in output.err
    assert read_calibration(path) == calibrated
    assert run_command(["calibrate", "-t", task, "--data", str(given), "--limit", "6"]) == 0
    assert "not kept: A temperature needs at least 10 rows, and there are 6" in capsys.readouterr().out


def test_it_can_be_taken_away(
    calibrated: Calibration, capsys: pytest.CaptureFixture[str], path: Path, task: str
) -> None:
    capsys.readouterr()
    assert run_command(["calibrate", "-t", task, "--remove"]) == 0
    assert capsys.readouterr().out == "The calibration of routing is removed.\n"
    assert not path.exists()
    assert run_command(["calibrate", "-t", "all", "--remove"]) == 0
    assert capsys.readouterr().out == "tiny has no calibrations.\n"
    calibrated.write(path)
    assert run_command(["calibrate", "-t", "all", "--remove"]) == 0
    assert not path.exists()


@pytest.mark.usefixtures("model")
def test_wrong_usage(capsys: pytest.CaptureFixture[str], task: str, rows: Path, tmp_path: Path) -> None:
    assert "--data" in refused(capsys, 2, "calibrate", "-t", task)
    assert "--remove" in refused(capsys, 2, "calibrate", "-t", task, "--data", str(rows), "--remove")
    assert "no task" in refused(capsys, 2, "calibrate", "-t", "nonsense", "--data", str(rows))
    assert "cannot be read" in refused(capsys, 3, "calibrate", "-t", task, "--data", str(tmp_path / "absent.jsonl"))
    generation = write_rows(tmp_path / "AG.jsonl", [{**EXAMPLES["answer_generation"], "output": "yes"}])
    assert "without a probability to calibrate" in refused(capsys, 3, "calibrate", "-t", "AG", "--data", generation)


def test_models_show_them_and_remove_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECELLM_HOME", str(tmp_path / "home"))
        store = Store()
        model = store.add(write_tiny_model(tmp_path / "tiny.gguf"), "tiny", "alpaca")
        own = calibration_of("sentiment_analysis")
        held = replace(own, scope=replace(own.scope, model=model.manifest.sha256))
        held.write(calibration_path(store, model, "sentiment_analysis"))
        calibration_of("product_matching").write(calibration_path(store, model, "product_matching"))
        calibration_path(store, model, "routing").write_text("{")
        foreign, damaged, holds = answered(capsys, "models", "show", "tiny", "--json")["calibrations"]
        assert holds == held.name
        assert "is not used: it is for the model 55555555" in foreign
        assert "is damaged" in damaged
        assert run_command(["models", "show", "tiny"]) == 0
        assert f"calibrations   {held.name}\n" in capsys.readouterr().out
        assert run_command(["models", "remove", "tiny"]) == 0
        assert not model.path.parent.exists()
