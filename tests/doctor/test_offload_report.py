"""Tests `doctor --offload`, which compares one row's answers on the CPU and on the GPU, and reports failures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ecellm_lite import ModelError, Runtime, UsageError
from ecellm_lite.cli.main import run_command
from ecellm_lite.doctor_offload.attempt import attempt
from ecellm_lite.doctor_offload.comparison import TASK, compare
from ecellm_lite.models.calibration_files import calibration_path
from ecellm_lite.models.calibration_scope import Scope, text_hash
from ecellm_lite.models.calibrations import FORMAT, Calibration, Measures
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.pipe.child_runtime import child_command
from ecellm_lite.pipe.messages import Ask
from ecellm_lite.tasks.registry import get_task
from tests.support.offload_programs import ANSWER, STAND_IN, doctor, failed, on, python


def test_doctor_compares_cpu_and_gpu(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = python(STAND_IN.format(""))
    assert doctor(monkeypatch, program, "--envelope", "alpaca", "--model", str(tiny), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report) == ["agrees", "model", "task", "cpu", "gpu", "same_answer", "difference", "findings"]
    assert report["agrees"] is True
    assert report["model"] == "tiny.gguf"
    assert report["difference"] < 0.1
    assert report["findings"] == []
    assert (report["cpu"]["gpu_layers"], report["gpu"]["gpu_layers"]) == (0, 7)
    with Runtime(tiny, envelope="alpaca", prefix_files=False) as runtime:
        expected = runtime.answer(TASK, get_task(TASK).example()).probabilities
    for run in (report["cpu"], report["gpu"]):
        assert run["load_seconds"] > 0
        assert run["row_seconds"] > 0
        assert run["probabilities"] == pytest.approx(expected, abs=1e-3)


def test_the_comparison_is_shown_as_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(monkeypatch, python(ANSWER)) == 0
    title, _, heading, *rows, _, verdict = capsys.readouterr().out.splitlines()
    assert title.startswith("shop: 2 of 2 ")
    for name, row in zip(("CPU", "GPU"), rows, strict=True):
        assert re.fullmatch(rf"{name} +2 +\d+\.\d\d s +0\.250 s   B \(75\.0%\)", row)
    assert len(heading) <= len(rows[0])
    assert "0.0000" in verdict


def test_doctor_reports_a_gpu_that_computes_another_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = on("gpu", "serve(value='A', probabilities={'A': 0.7, 'B': 0.3})")
    assert doctor(monkeypatch, program) == 1
    output = capsys.readouterr()
    assert "0.4500" in output.out
    assert "--gpu-layers 0" in output.err


def test_the_parent_never_loads_llama_cpp() -> None:
    code = (
        "import sys; from ecellm_lite.doctor_offload.comparison import compare; "
        f"compare(None, program={python(ANSWER)!r}); assert 'llama_cpp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_without_a_gpu_doctor_says_so(demo_model: StoredModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo_model.path.is_file()
    with pytest.raises(UsageError):
        compare("demo")
    assert run_command(["doctor", "--offload", "--model", "demo"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1


def test_a_missing_model_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError):
        compare(str(tmp_path / "none.gguf"), envelope="alpaca")
    assert run_command(["doctor", "--envelope", "alpaca"]) == 2


def test_modules_in_the_current_folder_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("Python 3.10 always looks in the current folder")
    (tmp_path / "ecellm_lite").mkdir()
    (tmp_path / "ecellm_lite" / "__init__.py").write_text("raise SystemExit('not ours')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"none\.gguf"):
        compare("none.gguf", envelope="alpaca")


@pytest.mark.slow
def test_a_calibration_of_the_model_changes_nothing(demo_model: StoredModel) -> None:
    store, task = Store(), get_task(TASK)
    question = task.question(task.example())
    assert question.options
    scope = Scope(
        TASK,
        question.space.type,
        demo_model.manifest.sha256,
        "alpaca",
        text_hash(question.instruction),
        text_hash(question.options),
    )
    measures = Measures(-2.0, 0.3, 0.4), Measures(-1.0, 0.1, 0.2)
    path = calibration_path(store, demo_model, TASK)
    requests = [Ask(1, TASK, task.example(), {"calibration": False})]
    [plain] = attempt(child_command(None, gpu_layers=0, prefix_files=False), requests, 60).answers
    Calibration(scope, 9.0, 0.0, 0.0, 319, 319, *measures, "test.jsonl", "a" * 64, {}, FORMAT).write(path)
    try:
        with Runtime("demo", gpu_layers=0) as runtime:
            assert runtime.answer(TASK, task.example()).calibration  # the calibration is used by a Runtime
        [again] = attempt(child_command(None, gpu_layers=0, prefix_files=False), requests, 60).answers
        assert again.probabilities == pytest.approx(plain.probabilities, abs=1e-6)
    finally:
        path.unlink()


def test_a_failure_on_both_sides_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(monkeypatch, python("sys.exit('no\\x1b[2Jpower')"), "--model", "shop") == 1
    output = capsys.readouterr()
    assert output.out.count("exit code 1") == 2
    assert "    no\ufffd[2Jpower" in output.out
    assert "CPU and GPU" in output.err
    assert compare("shop", program=python("sys.exit(3)")).model == "shop"
    assert compare(None, program=python("sys.exit(3)")).model is None


@pytest.mark.parametrize("placement", ["cpu", "gpu"])
def test_an_error_on_one_side_is_a_finding(
    placement: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = on(placement, failed("model"))
    report = compare(None, program=program)
    assert (report.cpu is None, report.gpu is None) == (placement == "cpu", placement == "gpu")
    [finding] = report.findings
    assert finding.placement == placement
    assert "llama.cpp cannot load it: convert it again." in finding.finding  # the program's own words
    assert doctor(monkeypatch, program) == 1
    output = capsys.readouterr()
    assert placement.upper() in output.err
    assert f"\n  → {finding.advice}" in output.out


def test_an_error_on_both_sides_is_raised() -> None:
    with pytest.raises(ModelError, match="on the CPU"):
        compare(None, program=on("gpu", failed("model", "on the GPU"), failed("model", "on the CPU")))


def test_the_cpu_does_not_run_after_a_usage_error_of_the_gpu(tmp_path: Path) -> None:
    trace = tmp_path / "asked"
    with pytest.raises(UsageError, match="no GPU here"):
        compare(None, program=on("gpu", failed("usage", "no GPU here"), f"open({str(trace)!r}, 'w')"))
    assert not trace.exists()
