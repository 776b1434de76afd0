"""Tests that `doctor --offload` copes with processes that crash, hang, print nonsense or never start."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path

import psutil
import pytest

from ecellm_lite.doctor_offload import attempt as module
from ecellm_lite.doctor_offload.attempt import attempt
from ecellm_lite.doctor_offload.comparison import compare
from ecellm_lite.exit_codes import ending
from tests.support.offload_programs import ANSWER, CRASH, STAND_IN, doctor, on, posix, python


@posix
@pytest.mark.parametrize("placement", ["gpu", "cpu"])
def test_a_crash_is_a_finding(
    placement: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(monkeypatch, on(placement, CRASH), "--json") == 1
    output = capsys.readouterr()
    report = json.loads(output.out)
    [finding] = report["findings"]
    assert finding["placement"] == placement
    assert "SIGSEGV" in finding["finding"]
    assert finding["advice"]
    first, second, *stack = finding["last_lines"]
    assert (first, second) == ("CUDA error: out of luck", "Fatal Python error: Segmentation fault")
    assert any("File " in line for line in stack)
    assert report[placement] is None
    assert report["cpu" if placement == "gpu" else "gpu"]["probabilities"] == {"A": 0.25, "B": 0.75}
    assert report["model"] == "shop"
    assert (report["agrees"], report["difference"], report["same_answer"]) == (None, None, None)
    [sentence] = output.err.splitlines()
    assert placement.upper() in sentence


@posix
def test_a_crash_on_the_gpu_leaves_the_cpus_result(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real program runs, but llama.cpp's loader crashes if layers are placed on a GPU."""
    patch = f"load = llama.llama.llama_model_load_from_file\ndef crash(*given):\n    {CRASH}\n"
    patch += "if asked['gpu_layers'] == 'all':\n    llama.llama.llama_model_load_from_file = crash"
    program = python(STAND_IN.format(patch))
    assert doctor(monkeypatch, program, "--envelope", "alpaca", "--model", str(tiny)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tiny.gguf: 0 of 7 ")
    assert lines[3].split()[:2] == ["CPU", "0"]
    assert lines[4].split() == ["GPU", "all", "none"]
    assert "SIGSEGV" in lines[6]
    assert lines[7].startswith("  → ")
    assert any("llama.py" in line and "_open" in line for line in lines[8:])  # where it died


@posix
def test_an_answer_before_a_crash_is_kept() -> None:
    report = compare(None, program=on("gpu", f"{ANSWER}; {CRASH}"))
    assert report.agrees is True
    assert report.gpu is not None
    [finding] = report.findings
    assert "SIGSEGV" in finding.finding


@posix
def test_an_answer_is_kept_if_closing_the_model_crashes(tiny: Path) -> None:
    patch = f"def crash(*given):\n    {CRASH}\nllama.LlamaBackend.close = crash"
    report = compare(str(tiny), envelope="alpaca", program=python(STAND_IN.format(patch)))
    assert report.agrees is True
    assert [finding.placement for finding in report.findings] == ["cpu", "gpu"]


def test_a_hang_is_a_finding() -> None:
    report = compare(None, program=on("gpu", "import time; time.sleep(600)"), seconds=1.0)
    assert report.cpu is not None
    assert report.gpu is None
    [finding] = report.findings
    assert " 1 s " in finding.finding


@posix
def test_a_hang_is_reported_with_its_stack() -> None:
    [finding] = compare(None, program=on("gpu", "load(); (lambda: time.sleep(600))()"), seconds=3.0).findings
    assert "Aborted" in finding.last_lines[0]
    assert any("in <lambda>" in line for line in finding.last_lines)


@posix
def test_a_process_that_cannot_be_killed_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(module, "_GRACE", 0.1)
    monkeypatch.setattr(subprocess.Popen, "send_signal", lambda *_: None)
    monkeypatch.setattr(subprocess.Popen, "kill", lambda process: left.append(process))
    assert "cannot be killed" in attempt(python("time.sleep(600)", "{}"), [], 0.1).trouble
    assert left[0].poll() is None
    monkeypatch.undo()
    left[0].kill()
    left[0].wait()


@posix
def test_an_interrupted_doctor_ends_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    before = psutil.Process().children()
    started: list[psutil.Process] = []

    def interrupted(_: int) -> os.stat_result:
        started.extend(child for child in psutil.Process().children() if child not in before)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fstat", interrupted)
    with pytest.raises(KeyboardInterrupt):
        attempt(python("time.sleep(600)", "{}"), [], 60)
    monkeypatch.undo()
    assert len(started) == 1
    gone, _ = psutil.wait_procs(started, 60)
    assert gone == started


@pytest.mark.parametrize(
    "code",
    [
        *[f"sys.stdout.buffer.write(b'{text}')" for text in ("rubbish", "", "[1]", "null", "7", "[" * 60000, "\\xff")],
        "say()", "say(type=7)", "say(type='ready')", "say(type='answer')", "say(type='error', error=None)",
        "load()", "load(name=None)", "load(); answer()", "serve(placement=None)", "serve(placement={'gpu_layers': 2})",
        "serve(probabilities=None)", "serve(probabilities={})", "serve(probabilities={'A': 1.0})", "serve(value=['B'])",
        "serve(probabilities={'B': 'much'})", "serve(probabilities={'B': float('nan')})", "serve(probabilities=7)",
        "serve(seconds=None)", "serve(more=1)", "serve(usage={'tokens': 3})",
    ],
)  # fmt: skip
def test_invalid_output_is_a_finding(code: str) -> None:
    report = compare(None, program=on("gpu", code))
    assert report.cpu is not None
    assert report.gpu is None
    [finding] = report.findings
    assert finding.placement == "gpu"
    assert len(finding.finding) < 250


def test_an_option_missing_on_one_side_counts_as_probability_zero() -> None:
    report = compare(None, program=on("gpu", "serve(probabilities={'B': 0.75, 'C': 0.4})"))
    assert report.difference == pytest.approx(0.4)
    assert report.agrees is False


def test_output_of_native_code_is_not_taken_as_a_result(tiny: Path) -> None:
    patch = "import os\nclose = llama.LlamaBackend.close\n"
    patch += "def loud(self):\n    os.write(1, b'ggml: freed')\n    close(self)\nllama.LlamaBackend.close = loud"
    patch += "\nplace = weights.gpus\nweights.gpus = lambda devices: os.write(1, b'ggml: found') and place(devices)"
    report = compare(str(tiny), envelope="alpaca", program=python(STAND_IN.format(patch)))
    assert report.agrees is True
    assert report.findings == ()


def test_only_the_last_lines_of_long_output_are_kept() -> None:
    code = "[print('x' * 999, n, file=sys.stderr) for n in range(999)]\n0/0"
    last_lines = attempt(python(code, "{}"), [], 60).last_lines
    assert 10 < len(last_lines) <= 80
    assert max(map(len, last_lines)) == 300
    assert last_lines[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_process_with_endless_output_is_stopped(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 1 << 20)
    code = f"while True: sys.{stream}.write('x' * 9999 + '\\n'); time.sleep(0.001)"
    outcome = attempt(python(code, "{}"), [], 20)
    assert outcome.trouble
    assert "20 s" not in outcome.trouble
    assert bool(outcome.last_lines) == (stream == "stderr")


def test_a_missing_program_is_a_finding(tmp_path: Path) -> None:
    report = compare(None, program=[str(tmp_path / "none")])
    assert len(report.findings) == 2
    assert os.strerror(errno.ENOENT) in report.findings[0].finding


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, ""),
        (3, "exit code 3"),
        (-250, "signal 250"),
        (0xC0000005, "exit code 0xC0000005"),
    ],
)
def test_exit_codes_are_explained(code: int, words: str) -> None:
    assert bool(ending(code)) == bool(code)
    assert words in ending(code)


@posix
@pytest.mark.parametrize("name", ["SIGKILL", "SIGABRT", "SIGTERM"])
def test_signals_are_named(name: str) -> None:
    trouble = attempt(python(f"import os, signal; os.kill(os.getpid(), signal.{name})", "{}"), [], 60).trouble
    assert name in trouble
    assert ("(" in trouble) == (name != "SIGTERM")  # what it means
