"""Tests the command `eval`: it reads files of rows, and gives a table, JSON, an HTML page and an exit code."""

from __future__ import annotations

import errno
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ecellm_lite import Runtime
from ecellm_lite import runtime as runtime_module
from ecellm_lite.answers.answer import ModelName
from ecellm_lite.cli.main import run_command
from ecellm_lite.cli.measured import show_comparison, show_results
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.evaluate.comparison import compare
from ecellm_lite.evaluate.results import Results, read_results
from ecellm_lite.models.calibrations import Calibrations
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.store import StoredModel
from ecellm_lite.tasks.registry import TASKS
from tests.support.calibrations import SHA256, calibration_of
from tests.support.labelled_rows import dataset_row, row, write_lines

pytest.importorskip("rouge_score", reason="free text is measured by rouge-score (extra 'eval')")


def output_of(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> tuple[str, str]:
    exit_code = run_command(["eval", *arguments])
    output = capsys.readouterr()
    assert exit_code == code, output.err
    return output.out, output.err


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with six rows of each task."""
    folder = tmp_path_factory.mktemp("rows")
    for name in TASKS:
        write_lines(folder / name / "test.jsonl", [row(name, number) for number in range(6)])
    return folder


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(*, context: int | None, deterministic: bool, **_: Any) -> Runtime:
        return Runtime.over(FakeBackend(cells=context or 4096), deterministic=deterministic)

    monkeypatch.setattr(runtime_module, "Runtime", fake)


@pytest.fixture
def results_file(rows: Path, tmp_path: Path, fake_engine: None) -> tuple[Path, Results]:
    """Evaluate the fake engine on the fixture `rows`. Return the file of the results, and the results."""
    path = tmp_path / "results.json"
    assert run_command(["eval", "--task", "all", "--data", str(rows), "--output", str(path), "--quiet"]) == 0
    return path, read_results(path)


def test_eval_measures_the_demo(rows: Path, capsys: pytest.CaptureFixture[str], demo_model: StoredModel) -> None:
    args = ("-t", "PSI", "--data", str(rows), "--limit", "2", "--model", "demo", "--threads", "1", "--json", "--quiet")
    report = json.loads(output_of(capsys, 0, *args)[0])
    assert report["model"] == {"name": "demo", "sha256": demo_model.manifest.sha256, "adapter": None}
    task = report["tasks"]["product_substitute_identification"]
    assert (task["rows"], task["answered"], task["failed"]) == (2, 2, 0)
    assert all(0.5 <= record["probability"] <= 1 for record in task["records"])
    assert task["records"][0]["coverage"] > 0


def test_eval_measures_all_tasks(results_file: tuple[Path, Results]) -> None:
    _, results = results_file
    assert list(results.tasks) == list(TASKS)
    assert (results.envelope, results.calibrated, results.settings.limit) == ("alpaca", False, None)
    assert len(results.data) == 10
    for name, task in results.tasks.items():
        assert (task.rows, task.answered, task.failed, task.unreadable) == (6, 6, 0, [])
        assert "### Response:" in task.slowest[0].prompt
        assert TASKS[name].instruction in task.slowest[0].prompt


def shown(draw: Any, results: Any) -> str:
    console = Console(width=80, file=io.StringIO(), record=True, color_system=None)
    draw(results, console)
    return console.export_text()


def test_the_table_shows_the_papers_figures(results_file: tuple[Path, Results]) -> None:
    path, results = results_file
    text = shown(show_results, results)
    assert re.search(r"^PM +6 F1 +[\d.]{5} [\d.]{5}…[\d.]{5} +[\d.]{5} +0\.991 +0\.995 +0\.995 0\.753$", text, re.M)
    assert re.search(r"^AG +6 ROUGE-L .* - +- +- +- *$", text, re.M)
    assert re.search(r"^QPR: 6 of 6 ", text, re.M)
    text = shown(show_comparison, compare(results, read_results(path)))
    assert re.search(r"^SA +6 macro-F1 .* \+0\.000 \+0\.000…\+0\.000 0 +0", text, re.M)


def test_the_table_of_an_own_task_has_no_figures_of_the_paper(results_file: tuple[Path, Results]) -> None:
    _, results = results_file
    task = replace(results.tasks["sentiment_analysis"], abbreviation="desk")
    [line] = [line for line in shown(show_results, replace(results, tasks={"desk": task})).splitlines() if "F1" in line]
    assert re.fullmatch(r"desk +6 macro-F1 +[\d.]{5} [\d.]{5}…[\d.]{5} *", line)


def test_compare_shows_the_difference_of_two_results(
    results_file: tuple[Path, Results], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, _ = results_file
    text, _ = output_of(capsys, 0, "--compare", str(path), str(path), "--json")
    assert set(json.loads(text)["tasks"]) == set(TASKS)
    text, _ = output_of(capsys, 0, "--compare", str(path), str(path))
    assert "fake" in text
    _, error = output_of(capsys, 2, "--compare", str(path), str(path), "--task", "all")
    assert "--compare" in error
    (tmp_path / "cut.json").write_text(path.read_text()[:-5])
    _, error = output_of(capsys, 3, "--compare", str(path), str(tmp_path / "cut.json"))
    assert "cut.json" in error


def test_eval_writes_a_report(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_engine: None
) -> None:
    pytest.importorskip("jinja2", reason="the page is made by jinja2 (extra 'eval')")
    path = tmp_path / "report.html"
    output_of(capsys, 0, "-t", "PM", "--data", str(rows), "--report", str(path), "--quiet")
    assert "</html>" in path.read_text("utf-8")


def test_a_cascade_tells_each_models_part(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(*, model: str, **_: Any) -> Runtime:
        return Runtime.over(FakeBackend(), name=ModelName(model, {"small": "a", "large": "b"}[model] * 64))

    monkeypatch.setattr(runtime_module, "Runtime", fake)
    path = tmp_path / "results.json"
    arguments = ("-t", "SA", "--data", str(rows), "--model", "small,large", "--quiet")
    output_of(capsys, 0, *arguments, "--escalate-below", "0.5", "--output", str(path))
    results = read_results(path)
    assert (results.model.name, results.settings.escalate_below) == ("small,large", 0.5)
    task = results.tasks["sentiment_analysis"]
    assert task.models is not None
    small, large = task.models
    assert (small.model, large.model) == ("small", "large")
    assert small.asked == task.rows == small.answers + large.answers
    assert large.asked == large.answers
    assert sum(note.startswith(("small", "large")) for note in task.notes) == 2
    output_of(capsys, 0, *arguments, "--escalate-below", "1", "--output", str(path))
    models = read_results(path).tasks["sentiment_analysis"].models
    assert models is not None
    assert [(model.asked, model.answers) for model in models] == [(6, 0), (6, 6)]
    assert models[0].metric is None
    for wrong in (("--calibration", "a.json"), ("--adapter", "shop=a.gguf")):
        output_of(capsys, 2, *arguments, "--escalate-below", "0.5", *wrong)
    output_of(capsys, 2, "-t", "SA", "--data", str(rows), "--model", "small", "--escalate-below", "0.5")


def test_damaged_rows_give_exit_code_5(tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_engine: None) -> None:
    long = {**row("sentiment_analysis", 1), "input": {"review": "far too long " * 2000}}
    path = write_lines(tmp_path / "rows.jsonl", [row("sentiment_analysis", 0), "{", long])
    text, error = output_of(capsys, 5, "-t", "SA", "--data", str(path), "--json", "--context", "1000", "--quiet")
    task = json.loads(text)["tasks"]["sentiment_analysis"]
    assert (task["rows"], task["answered"], task["failed"]) == (2, 1, 1)
    assert [line["line"] for line in task["unreadable"]] == [2]
    assert task["records"][1]["error"]["code"] == "context_exceeded"
    assert re.search(r"\b2 rows .*\bline 2\b", error)
    # No row can be read: there is a result all the same.
    write_lines(tmp_path / "rows.jsonl", ["{"])
    text, _ = output_of(capsys, 5, "-t", "SA", "--data", str(path), "--quiet")
    assert "SA: line 1: " in text
    write_lines(path, ["{"] * 7)
    text, _ = output_of(capsys, 5, "-t", "all", "--data", str(path), "--quiet")
    assert [f": line {number}: " in text for number in (1, 5, 6)] == [True, True, False]
    write_lines(path, ["{"])
    text, error = output_of(capsys, 5, "-t", "all", "--data", str(path), "--json", "--quiet")
    assert [line["line"] for line in json.loads(text)["unreadable"]] == [1]
    assert "line 1" in error


def test_a_setting_and_a_limit_select_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_engine: None
) -> None:
    setting = "OOD_Diverse_Instruction"
    dataset = [dataset_row("sentiment_analysis", number, setting=setting) for number in range(9)]
    path = write_lines(tmp_path / "dataset.json", [dataset_row("sentiment_analysis", 10), *dataset])
    options = ("-t", "SA", "--data", str(path), "--setting", setting, "--limit", "3", "--deterministic", "--json")
    report = json.loads(output_of(capsys, 0, *options, "--quiet")[0])
    task = report["tasks"]["sentiment_analysis"]
    assert task["rows"] == 3
    assert task["slowest"] == []  # a deterministic answer has no seconds
    assert "(said otherwise)" in task["least_certain"][0]["prompt"]
    assert report["settings"]["setting"] == setting
    assert "'val'" in output_of(capsys, 3, *options, "--split", "val", "--quiet")[1]


def test_eval_takes_an_instruction(rows: Path, capsys: pytest.CaptureFixture[str], fake_engine: None) -> None:
    text, _ = output_of(capsys, 0, "-t", "PSI", "--data", str(rows), "--instruction", "Well?", "--json", "--quiet")
    report = json.loads(text)
    assert "Well?" in report["tasks"]["product_substitute_identification"]["slowest"][0]["prompt"]
    assert report["settings"]["instruction"] == "Well?"


def test_eval_reads_a_table_and_says_how(tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_engine: None) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("Text;Urteil\nSchön.;B\nSchlecht.;E\n".encode("cp1252"))
    options = ("--map", "review=Text", "--answer-column", "Urteil")
    text, error = output_of(capsys, 0, "-t", "SA", "--data", str(path), *options, "--json")
    assert json.loads(text)["tasks"]["sentiment_analysis"]["answered"] == 2
    assert "'Urteil'" in error
    _, error = output_of(capsys, 2, "-t", "SA", "--data", str(path), "--map", "review=Text")
    assert "--answer-column" in error


def test_wrong_options_are_refused(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--data" in output_of(capsys, 2, "--task", "SA")[1]
    assert "--task" in output_of(capsys, 2, "--data", str(rows))[1]
    assert "--task" in output_of(capsys, 2, "-t", "all", "--data", str(rows), "--instruction", "Well?")[1]
    assert "'sentimental'" in output_of(capsys, 2, "--task", "sentimental", "--data", str(rows))[1]
    assert str(tmp_path) in output_of(capsys, 3, "--task", "SA", "--data", str(tmp_path))[1]
    assert "absent" in output_of(capsys, 3, "--task", "SA", "--data", str(tmp_path / "absent"))[1]
    assert "--output" in output_of(capsys, 3, "--task", "SA", "--data", str(rows), "--output", str(tmp_path))[1]
    (tmp_path / "own.toml").write_text(
        'name = "own"\nsummary = "s"\ninstruction = "i"\n[[fields]]\nname = "mail"\n[answer]\ntype = "text"\n'
    )
    own = str(tmp_path / "own.toml")
    assert "own" in output_of(capsys, 2, "--task", own, "--data", str(rows))[1]


def test_an_output_never_replaces_the_rows(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [row("product_matching", 0)])
    link = tmp_path / "link"
    link.symlink_to(path)
    before = path.read_bytes()
    assert "(--output)" in output_of(capsys, 2, "-t", "PM", "--data", str(path), "-o", str(link))[1]
    folder = rows / "product_matching" / "test.jsonl"
    error = output_of(capsys, 2, "-t", "PM", "--data", str(rows), "--output", str(folder))[1]
    assert "(--output)" in error
    both = ("-t", "PM", "--data", str(path), "--output", str(tmp_path / "new"), "--report")
    pytest.importorskip("jinja2", reason="the page is made by jinja2 (extra 'eval')")
    assert "(--output, --report)" in output_of(capsys, 2, *both, str(rows / ".." / tmp_path / "new"))[1]
    assert "(--report)" in output_of(capsys, 2, *both, str(path))[1]
    assert path.read_bytes() == before


def test_an_output_never_replaces_the_model_or_a_task(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, adapter, own = tmp_path / "model.gguf", tmp_path / "a.gguf", tmp_path / "own.toml"
    model.write_bytes(b"weights")
    adapter.write_bytes(b"factors")
    own.write_text(
        'name = "own"\nsummary = "s"\ninstruction = "i"\n[[fields]]\nname = "mail"\n'
        '[answer]\ntype = "choice"\nlabels = { file = "labels.txt" }\n'
    )
    (tmp_path / "labels.txt").write_text("Toys\nLamps\n")
    files = [model, adapter, own, tmp_path / "labels.txt"]
    before = [path.read_bytes() for path in files]
    arguments = ("-t", str(own), "--data", str(rows), "--model", str(model), "--adapter", str(adapter))
    for path in files:
        assert "(--output)" in output_of(capsys, 2, *arguments, "--output", str(path))[1]
        assert "(--report)" in output_of(capsys, 2, *arguments, "--report", str(path))[1]
    assert [path.read_bytes() for path in files] == before


def test_an_older_file_survives_a_full_disk(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.json"
    options = ("-t", "PM", "--data", str(rows), "--output", str(path), "--json", "--quiet")
    output_of(capsys, 0, *options)
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode
    (tmp_path / "other").unlink()
    path.chmod(0o640)
    output_of(capsys, 0, *options)
    assert path.stat().st_mode & 0o777 == 0o640
    older = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    text, error = output_of(capsys, 3, *options)
    assert json.loads(text)["tasks"]
    assert os.strerror(errno.ENOSPC) in error
    assert path.read_bytes() == older
    assert list(tmp_path.iterdir()) == [path]


def test_finished_tasks_are_kept_when_the_evaluation_is_interrupted(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.json"
    path.write_text("older")
    answers, tasks = Runtime.answers, []

    def interrupted(runtime: Runtime, task: Any, *arguments: Any, **more: Any) -> Any:
        tasks.append(task.name)
        if len(tasks) == 3:
            raise KeyboardInterrupt
        return answers(runtime, task, *arguments, **more)

    monkeypatch.setattr(Runtime, "answers", interrupted)
    _, error = output_of(capsys, 130, "-t", "all", "--data", str(rows), "--output", str(path), "--quiet")
    assert f"{path}.part" in error
    assert list(read_results(tmp_path / "results.json.part").tasks) == tasks[:2]
    assert path.read_text() == "older"
    monkeypatch.setattr(Runtime, "answers", answers)
    output_of(capsys, 0, "-t", "all", "--data", str(rows), "--output", str(path), "--quiet")
    assert len(read_results(path).tasks) == len(TASKS)
    assert list(tmp_path.iterdir()) == [path]


def test_options_beyond_five_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_engine: None
) -> None:
    options = [f"{letter}: kind {letter}" for letter in "ABCDEFG"]
    whole = {
        "product_relation_prediction": False,
        "sentiment_analysis": True,
        "multiclass_product_classification": True,
    }
    for name, whole_line in whole.items():
        labelled = [
            {
                **dataset_row(name, number),
                "options": str(options),
                "output": options[number] if whole_line else options[number][0],
            }
            for number in (0, 5, 6)
        ]
        path = write_lines(tmp_path / f"{name}.jsonl", labelled)
        text, _ = output_of(capsys, 0, "-t", name, "--data", str(path), "--json", "--quiet")
        [task] = json.loads(text)["tasks"].values()
        assert {"F", "G"} <= set(task["confusion"]["labels"])
        assert 0 <= task["metrics"]["all"]["macro_f1"] <= 1


def test_a_path_that_is_too_long_is_an_error(capsys: pytest.CaptureFixture[str], fake_engine: None) -> None:
    assert os.strerror(errno.ENAMETOOLONG) in output_of(capsys, 3, "-t", "PM", "--data", "n" * 300)[1]


def test_the_file_of_rows_may_be_deleted_while_they_are_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [row("product_matching", 0)])
    hashed = sha256_of(path)
    answers = Runtime.answers

    def removing(*arguments: Any, **options: Any) -> Any:
        path.unlink()
        return answers(*arguments, **options)

    monkeypatch.setattr(Runtime, "answers", removing)
    text, _ = output_of(capsys, 0, "-t", "PM", "--data", str(path), "--json", "--min-probability", "0.1", "--quiet")
    report = json.loads(text)
    assert report["data"] == [{"name": "rows.jsonl", "sha256": hashed}]
    assert report["settings"]["min_probability"] == 0.1


def test_an_unused_calibration_is_reported_before_the_rows_are_answered(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = ModelName("shop", SHA256)
    calibration_of("sentiment_analysis").write(tmp_path / "sentiment_analysis.json")

    def fake(**_: Any) -> Runtime:
        calibrations = Calibrations(SHA256, "alpaca", tmp_path)
        return Runtime.over(FakeBackend(), name=name, calibrations=calibrations)

    monkeypatch.setattr(runtime_module, "Runtime", fake)
    options = ("-t", "SA", "--data", str(rows))
    text, error = output_of(capsys, 0, *options, "--instruction", "Well?", "--json")
    assert json.loads(text)["calibrated"] is False
    assert error.count(json.loads(text)["tasks"]["sentiment_analysis"]["uncalibrated"]["reason"]) == 1
    text, error = output_of(capsys, 0, *options, "--json", "--quiet")
    assert (json.loads(text)["calibrated"], error) == (True, "")
    assert json.loads(text)["tasks"]["sentiment_analysis"]["calibration"] == calibration_of("sentiment_analysis").name
    # Rows with their own instruction are reported after they are counted.
    mixed = [row("sentiment_analysis", 0), *(dataset_row("sentiment_analysis", number) for number in range(3))]
    path = write_lines(tmp_path / "mixed.jsonl", mixed)
    text, error = output_of(capsys, 0, "-t", "SA", "--data", str(path), "--json")
    task = json.loads(text)["tasks"]["sentiment_analysis"]
    assert (task["uncalibrated"]["rows"], task["uncalibrated"]["line"]) == (3, 2)
    [warning] = [line for line in error.splitlines() if "3 of 4" in line]
    assert "line 2" in warning
    assert output_of(capsys, 0, "-t", "SA", "--data", str(path), "--json", "--quiet")[1] == ""
    _, error = output_of(capsys, 0, "-t", "SA", "--data", str(path), "--json", "--instruction", "Well?")
    assert "sentiment_analysis" in error
    assert " of 4" not in error
    monkeypatch.setattr(Runtime, "answers", None)  # nothing is answered
    named = ("--calibration", str(tmp_path / "sentiment_analysis.json"), "--quiet")
    assert "sentiment_analysis" in output_of(capsys, 2, *options, *named, "--instruction", "Well?")[1]
    error = output_of(capsys, 2, "-t", "all", "--data", str(rows), *named)[1]
    assert "sentiment_analysis" in error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_results_are_still_printed_when_the_disk_is_full(
    rows: Path, capsys: pytest.CaptureFixture[str], fake_engine: None
) -> None:
    text, error = output_of(capsys, 3, "-t", "PM", "--data", str(rows), "--output", "/dev/full", "--json", "--quiet")
    assert json.loads(text)["tasks"]["product_matching"]["rows"] == 6
    assert "/dev/full" in error
