"""`doctor --offload` survives what it looks for: processes that crash, hang, talk rubbish, or have no GPU.

No test here ran on a GPU: llama.cpp's CPU stands in for one, in the child as the other tests have it in theirs.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from ecellm_lite import ModelError, Runtime, UsageError
from ecellm_lite.cli.main import run_command
from ecellm_lite.doctor_offload import child, comparison
from ecellm_lite.doctor_offload.child import watch
from ecellm_lite.doctor_offload.comparison import TASK, compare
from ecellm_lite.exit_codes import ending
from ecellm_lite.models.calibrations import FORMAT, Calibration, Measures, Scope, calibration_path, text_hash
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.tasks.registry import get_task
from tests.support.tiny_models import write_tiny_model

# On Windows a crash is an exit code, and no signal.
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")


def python(code: str, *asked: str) -> list[str]:
    """A program of these lines; `asked` is what it is asked."""
    start = f"import json, sys\nasked = json.loads(sys.argv[1])\n{code}"
    return [sys.executable, "-X", "faulthandler", "-c", start, *asked]


CRASH = "import faulthandler; print('CUDA error: out of luck', file=sys.stderr, flush=True); faulthandler._sigsegv()"

# The real program, which takes llama.cpp's CPU for a GPU, on one core (others may be busy); `{}` runs first.
STAND_IN = """
from ecellm_lite import ggml
from ecellm_lite.doctor_offload.__main__ import main
from ecellm_lite.engine import llama
llama.gpus = lambda devices: [device for device in ggml.devices() if device.kind == "cpu"]
llama.available_cores = lambda: 1
{}
main()
"""

# A program without a model, for what the other placement does.
ANSWERED = {
    "placement": "2 of 2 layers on GPU0",
    "gpu_layers": 2,
    "value": "B",
    "probabilities": {"A": 0.25, "B": 0.75},
    "load_seconds": 0.5,
    "row_seconds": 0.25,
}
ANSWER = f"print(json.dumps({{'model': 'shop', 'run': {ANSWERED}}}), flush=True)"


def on(placement: str, code: str, other: str = ANSWER) -> list[str]:
    """A program that does one thing on that placement, and another on the other."""
    there = "asked['gpu_layers'] " + ("== 'all'" if placement == "gpu" else "== 0")
    return python(f"if {there}:\n    {code}\nelse:\n    {other}")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of six layers and the output."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", layers=6, context=2048)


def doctor(monkeypatch: pytest.MonkeyPatch, program: Sequence[str], *arguments: str, seconds: float = 60.0) -> int:
    """The command, with another program in the place of the package's own."""
    monkeypatch.setattr(comparison, "compare", partial(compare, program=program, seconds=seconds))
    return run_command(["doctor", "--offload", *arguments])


# --- both answer


def test_doctor_compares(tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    program = python(STAND_IN.format(""))
    assert doctor(monkeypatch, program, "--envelope", "alpaca", "--model", str(tiny), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["agrees", "model", "task", "cpu", "gpu", "same_answer", "difference", "findings"]
    assert found["agrees"] is True
    assert found["model"] == "tiny.gguf"
    assert found["difference"] < 0.1
    assert found["findings"] == []
    assert (found["cpu"]["gpu_layers"], found["gpu"]["gpu_layers"]) == (0, 7)
    with Runtime(tiny, envelope="alpaca", prefix_files=False) as runtime:
        expected = runtime.answer(TASK, get_task(TASK).example()).probabilities
    for run in (found["cpu"], found["gpu"]):
        assert run["load_seconds"] > 0
        assert run["probabilities"] == pytest.approx(expected, abs=1e-3)


def test_it_is_said_in_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(monkeypatch, python(ANSWER)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "shop: 2 of 2 layers on GPU0",
        "",
        "       layers on GPU      load     a row   answer",
        "CPU                2    0.50 s   0.250 s   B (75.0%)",
        "GPU                2    0.50 s   0.250 s   B (75.0%)",
        "",
        "The same answer; probabilities differ by at most 0.0000.",
    ]


def test_doctor_says_when_the_gpu_computes_something_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {**ANSWERED, "value": "A", "probabilities": {"A": 0.7, "B": 0.3}}
    program = on("gpu", f"print(json.dumps({{'model': 'shop', 'run': {other}}}))")
    assert doctor(monkeypatch, program) == 1
    output = capsys.readouterr()
    assert "Another answer; probabilities differ by at most 0.4500." in output.out
    assert "--gpu-layers 0" in output.err


def test_the_parent_never_loads_llama_cpp() -> None:
    code = (
        "import sys; from ecellm_lite.doctor_offload.comparison import compare; "
        f"compare(None, program={python(ANSWER)!r}); assert 'llama_cpp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


# --- no GPU, no model


def test_without_a_gpu(demo_model: StoredModel, capsys: pytest.CaptureFixture[str]) -> None:
    """The package's own program, on the build that is here."""
    assert demo_model.path.is_file()
    with pytest.raises(UsageError, match="no GPU device here"):
        compare("demo")
    assert run_command(["doctor", "--offload", "--model", "demo"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    [line] = output.err.splitlines()
    assert "install a GPU build" in line


def test_without_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError):
        compare(str(tmp_path / "none.gguf"), envelope="alpaca")
    assert run_command(["doctor", "--model", "demo"]) == 2


def test_modules_in_the_current_folder_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("Python 3.10 always looks in the current folder")
    (tmp_path / "ecellm_lite").mkdir()
    (tmp_path / "ecellm_lite" / "__init__.py").write_text("raise SystemExit('not ours')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"none\.gguf"):
        compare("none.gguf", envelope="alpaca")


# --- a process dies


@posix
@pytest.mark.parametrize("placement", ["gpu", "cpu"])
def test_a_crash_is_a_finding(
    placement: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(monkeypatch, on(placement, CRASH), "--json") == 1
    output = capsys.readouterr()
    found = json.loads(output.out)
    [finding] = found["findings"]
    assert finding["placement"] == placement
    layers = "all" if placement == "gpu" else "no"
    assert finding["finding"] == (
        f"With {layers} layers on the GPU the row was not answered: "
        "its process was killed by SIGSEGV (a crash in native code)."
    )
    assert ("0 GPU layers" in finding["advice"]) == (placement == "gpu")
    first, second, *stack = finding["last_lines"]
    assert (first, second) == ("CUDA error: out of luck", "Fatal Python error: Segmentation fault")
    assert any("File " in line for line in stack)
    assert found[placement] is None
    assert found["cpu" if placement == "gpu" else "gpu"] == ANSWERED
    assert (found["model"], found["agrees"], found["difference"], found["same_answer"]) == ("shop", None, None, None)
    assert output.err.splitlines() == [
        f"ecellm-lite: The row failed on the {placement.upper()}: follow the arrows above."
    ]


@posix
def test_a_crash_in_llama_cpp_leaves_the_other_run(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real program, in which llama.cpp's loader dies where layers are placed on a GPU."""
    patch = f"load = llama.llama.llama_model_load_from_file\ndef crash(*given):\n    {CRASH}\n"
    patch += "if asked['gpu_layers'] == 'all':\n    llama.llama.llama_model_load_from_file = crash"
    program = python(STAND_IN.format(patch))
    assert doctor(monkeypatch, program, "--envelope", "alpaca", "--model", str(tiny)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tiny.gguf: 0 of 7 layers on CPU")
    assert lines[3].split()[:2] == ["CPU", "0"]
    assert lines[4].split() == ["GPU", "all", "none"]
    assert "killed by SIGSEGV" in lines[6]
    assert lines[7].startswith("  → run with 0 GPU layers")
    assert any("llama.py" in line and "_open" in line for line in lines[8:])  # where it died


@posix
def test_a_crash_after_the_answer_keeps_the_answer() -> None:
    found = compare(None, program=on("gpu", f"{ANSWER}; {CRASH}"))
    assert found.agrees is True
    [finding] = found.findings
    assert "the row was answered, but then its process was killed by SIGSEGV" in finding.finding


@posix
def test_the_answer_is_told_before_the_model_is_closed(tiny: Path) -> None:
    patch = f"def crash(*given):\n    {CRASH}\nllama.LlamaBackend.close = crash"
    found = compare(str(tiny), envelope="alpaca", program=python(STAND_IN.format(patch)))
    assert found.agrees is True
    assert [finding.placement for finding in found.findings] == ["cpu", "gpu"]


def test_a_calibration_of_the_model_changes_nothing(demo_model: StoredModel) -> None:
    asked = {"model": None, "envelope": None, "gpu_layers": 0, "seconds": 60}
    program = [sys.executable, "-m", "ecellm_lite.doctor_offload", json.dumps(asked)]
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
    plain = json.loads(watch(program, 60).output)["run"]["probabilities"]
    Calibration(scope, 9.0, 0.0, 0.0, 319, 319, *measures, "test.jsonl", "a" * 64, {}, FORMAT).write(path)
    try:
        with Runtime("demo", gpu_layers=0) as runtime:
            assert runtime.answer(TASK, task.example()).calibration  # it is one that is used elsewhere
        assert json.loads(watch(program, 60).output)["run"]["probabilities"] == pytest.approx(plain, abs=1e-6)
    finally:
        path.unlink()


def test_both_may_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(monkeypatch, python("sys.exit('no\\x1b[2Jpower')"), "--model", "shop") == 1
    output = capsys.readouterr()
    assert output.out.count("was not answered: its process ended with exit code 1.") == 2
    assert "    no\ufffd[2Jpower" in output.out
    assert "on the CPU and GPU: follow" in output.err
    assert compare("shop", program=python("sys.exit(3)")).model == "shop"
    assert compare(None, program=python("sys.exit(3)")).model is None


def failed(code: str, message: str = "llama.cpp cannot load it: convert it again.") -> str:
    """What a program does that ends with an error."""
    return f"print(json.dumps({ {'error': {'code': code, 'message': message}} }))"


@pytest.mark.parametrize(("placement", "layers"), [("cpu", "no"), ("gpu", "all")])
def test_an_error_on_one_alone_is_a_finding(
    placement: str, layers: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = on(placement, failed("model"))
    found = compare(None, program=program)
    assert (found.cpu is None, found.gpu is None) == (placement == "cpu", placement == "gpu")
    assert [finding.finding for finding in found.findings] == [
        f"With {layers} layers on the GPU the row was not answered. llama.cpp cannot load it: convert it again."
    ]
    # What the command says points at something.
    assert doctor(monkeypatch, program) == 1
    output = capsys.readouterr()
    assert "follow the arrows above" in output.err
    advice = "use a smaller file" if placement == "cpu" else "run with 0 GPU layers"
    assert f"\n  → {advice}" in output.out


def test_an_error_on_both_is_raised() -> None:
    with pytest.raises(ModelError, match="on the CPU"):
        compare(None, program=on("gpu", failed("model", "on the GPU"), failed("model", "on the CPU")))


def test_the_cpu_is_not_asked_after_a_wrong_call(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    with pytest.raises(UsageError, match="no GPU here"):
        compare(None, program=on("gpu", failed("usage", "no GPU here"), f"open({str(asked)!r}, 'w')"))
    assert not asked.exists()


# --- a process hangs


def test_a_hang_is_a_finding() -> None:
    found = compare(None, program=on("gpu", "import time; time.sleep(600)"), seconds=1.0)
    assert found.cpu is not None
    assert found.gpu is None
    [finding] = found.findings
    assert "its process did not end within 1 s and was stopped" in finding.finding


def test_a_hang_tells_where() -> None:
    code = "import time; from ecellm_lite.doctor_offload import __main__ as ours; "
    code += "ours._answer = lambda *given: time.sleep(600); ours.main()"
    [finding] = compare(None, program=on("gpu", code), seconds=5.0).findings
    assert finding.last_lines[0].startswith("Timeout")
    assert any("__main__.py" in line and "in main" in line for line in finding.last_lines)


@posix
def test_a_process_that_cannot_be_killed_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(child, "_GRACE", 0.1)
    monkeypatch.setattr(subprocess.Popen, "kill", lambda process: left.append(process))
    ended = watch(python("import time; time.sleep(600)", "{}"), 0.1)
    assert "cannot be killed" in ended.trouble
    monkeypatch.undo()
    left[0].kill()
    left[0].wait()


@posix
def test_who_interrupts_the_doctor_ends_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def interrupted(process: subprocess.Popen[bytes], seconds: float) -> int:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        watch(python("import time; time.sleep(600)", "{}"), 60)
    monkeypatch.undo()
    assert started[0].wait() == -signal.SIGKILL


# --- a process talks


def run_with(**changed: object) -> str:
    return json.dumps({"model": "shop", "run": {**ANSWERED, **changed}})


@pytest.mark.parametrize(
    "said",
    [
        "rubbish", "", "[1, 2]", "null", "7", '{"run": {"value": "B"}, "model": "shop"}', "[" * 60000, "\\xff",
        run_with(probabilities=None), run_with(probabilities={}), run_with(probabilities={"A": 1.0}),
        run_with(probabilities={"B": "much"}), run_with(probabilities={"B": float("nan")}), run_with(value=["B"]),
        run_with(load_seconds=None), run_with(gpu_layers="2"), run_with(placement=None), run_with(more=1),
        json.dumps({"model": 7, "run": ANSWERED}), '{"error": null}', '{"error": {"code": [], "message": "No."}}',
        '{"error": {"code": "model", "message": null}}',
    ],
)  # fmt: skip
def test_rubbish_is_a_finding(said: str) -> None:
    found = compare(None, program=on("gpu", f"sys.stdout.buffer.write(b'{said}')"))
    assert found.cpu is not None
    assert found.gpu is None
    [finding] = found.findings
    assert "ended normally, but its output is not a result" in finding.finding
    assert len(finding.finding) < 250


def test_an_answer_that_one_has_not_has_no_probability_there() -> None:
    found = compare(None, program=on("gpu", f"print({run_with(probabilities={'B': 0.75, 'C': 0.4})!r})"))
    assert found.difference == pytest.approx(0.4)
    assert found.agrees is False


def test_what_native_code_prints_is_no_result(tiny: Path) -> None:
    patch = "import os\nclose = llama.LlamaBackend.close\n"
    patch += "def loud(self):\n    os.write(1, b'ggml: freed')\n    close(self)\nllama.LlamaBackend.close = loud"
    patch += "\nplace = llama.gpus\nllama.gpus = lambda devices: os.write(1, b'ggml: found') and place(devices)"
    found = compare(str(tiny), envelope="alpaca", program=python(STAND_IN.format(patch)))
    assert found.agrees is True
    assert found.findings == ()


def test_of_much_talk_the_end_is_kept() -> None:
    code = "[print('x' * 999, n, file=sys.stderr) for n in range(999)]\nprint('yes\\n' * 99999)\n0/0"
    ended = watch(python(code, "{}"), 60)
    assert len(ended.output) == 1 << 16
    assert 10 < len(ended.last_lines) <= 80
    assert max(map(len, ended.last_lines)) == 300
    assert ended.last_lines[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_who_never_stops_talking_is_stopped(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_MOST", 1 << 20)
    code = f"while True: sys.{stream}.write('x' * 9999 + '\\n'); time.sleep(0.001)"
    ended = watch(python(f"import time\n{code}", "{}"), 20)
    assert ended.trouble == "wrote more than 1 MiB and was stopped"
    assert (len(ended.output), bool(ended.last_lines)) == ((1 << 16, False) if stream == "stdout" else (0, True))


# --- how a process ended


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    found = compare(None, program=[str(tmp_path / "none")])
    assert len(found.findings) == 2
    assert "could not be started (No such file or directory)" in found.findings[0].finding


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, ""),
        (3, "ended with exit code 3"),
        (-250, "was killed by signal 250"),
        (0xC0000005, "ended with exit code 0xC0000005 (an access violation, a crash in native code)"),
    ],
)
def test_exit_codes_are_said_in_words(code: int, said: str) -> None:
    assert ending(code) == said


@posix
@pytest.mark.parametrize("name", ["SIGKILL", "SIGABRT", "SIGTERM"])
def test_signals_are_said_by_name(name: str) -> None:
    ended = watch(python(f"import os, signal; os.kill(os.getpid(), signal.{name})", "{}"), 60)
    assert ended.trouble.startswith(f"was killed by {name}")
    assert ("memory runs out" in ended.trouble) == (name == "SIGKILL")
