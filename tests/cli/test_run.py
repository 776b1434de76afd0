"""Tests the command `run`: its output, its exit codes, and its one-sentence error messages.

Also tests the help of all commands."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.cli.main import COMMANDS, run_command
from ecellm_lite.models.store import StoredModel
from ecellm_lite.tasks.registry import TASKS
from tests.support.commands import REVIEW, answered, refused

EXAMPLES = Path(__file__).parent.parent.parent / "ecellm_lite" / "tasks" / "examples"

# The contract of an answer: keys in this order.
KEYS = [
    "id", "task", "type", "value", "text", "probability", "probabilities", "confidence", "coverage", "abstained",
    "usage", "seconds", "model", "envelope", "calibration", "plausible", "unexplored", "shortened", "warnings", "error",
]  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_each_example_gives_an_answer_of_the_documented_form(
    name: str, capsys: pytest.CaptureFixture[str], demo_model: StoredModel
) -> None:
    answer = answered(capsys, "run", "--task", name, "--input", str(EXAMPLES / f"{name}.json"), "--json")
    assert list(answer) == KEYS
    assert answer["task"] == name
    assert answer["id"] == f"{TASKS[name].abbreviation}-1"
    assert answer["model"] == {"name": "demo", "sha256": demo_model.manifest.sha256, "adapter": None}
    assert answer["error"] is None
    assert answer["abstained"] is False
    assert list(answer["usage"]) == [
        "prompt_tokens", "cached_tokens", "decoded_tokens", "forced_tokens", "answer_tokens"
    ]  # fmt: skip


def test_show_prompt_prints_the_prompt_and_nothing_else(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    arguments = ["run", "-t", "SA", "--input", str(EXAMPLES / "sentiment_analysis.json"), "--show-prompt"]
    assert run_command([*arguments, "--envelope", "mistral"]) == 0
    golden = Path(__file__).parent.parent / "golden" / "prompts" / "sentiment_analysis.mistral.txt"
    assert capfdbinary.readouterr().out == golden.read_bytes()


def test_a_job_never_replaces_the_files_that_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, schema, model = tmp_path / "rows.csv", tmp_path / "schema.json", tmp_path / "model.gguf"
    rows.write_text("review\nGreat\n", "utf-8")
    schema.write_text('{"type": "string"}', "utf-8")
    model.write_bytes(b"weights")
    (tmp_path / "link.json").symlink_to(schema)
    arguments = ("run", "-t", "SA", "--rows", str(rows), "--schema", str(schema), "--model", str(model))
    assert "(--output)" in refused(capsys, 2, *arguments, "-o", str(schema))
    assert "(--output)" in refused(capsys, 2, *arguments, "-o", str(tmp_path / "link.json"))
    assert "(--report)" in refused(capsys, 2, *arguments, "--report", str(model))
    assert (schema.read_text("utf-8"), model.read_bytes()) == ('{"type": "string"}', b"weights")


def test_show_prompt_with_an_envelope_loads_no_model() -> None:
    code = (
        "import sys; from ecellm_lite.cli.main import run_command; "
        f"assert run_command(['run', '-t', 'SA', '-i', '{REVIEW}', '--show-prompt', '--envelope', 'alpaca']) == 0; "
        "assert 'llama_cpp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from ecellm_lite.cli.main import run_command; run_command(['--help']); "
        "heavy = {'numpy', 'llama_cpp', 'rich', 'llguidance', 'gguf', 'huggingface_hub'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([command, "--help"]) == 0
    assert "Usage: ecellm-lite" in capsys.readouterr().out


def test_wrong_options_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "sentiment_analysis" in refused(capsys, 2, "run", "--task", "sentiment", "--input", REVIEW)
    assert "--input" in refused(capsys, 2, "run", "--task", "SA")
    assert "--task" in refused(capsys, 2, "run", "--input", REVIEW)
    assert "--envelope" in refused(capsys, 2, "run", "-t", "SA", "-i", REVIEW, "--envelope", "no-such")
    assert "max-tokens" in refused(capsys, 2, "run", "-t", "SA", "-i", REVIEW, "--max-tokens", "5")
    assert "--rows" in refused(capsys, 2, "run", "-t", "SA", "-i", REVIEW, "--output", str(tmp_path / "x"))
    assert "nonsense" in refused(capsys, 2, "nonsense")
    assert "gpu-layers" in refused(capsys, 2, "run", "-t", "SA", "-i", REVIEW, "--gpu-layers", "-3")


def test_bad_input_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "'reviews'" in refused(capsys, 3, "run", "-t", "SA", "-i", '{"reviews": "x"}')
    assert "true" in refused(capsys, 3, "run", "-t", "SA", "-i", '{"review": true}')
    assert "review" in refused(capsys, 3, "run", "-t", "SA", "-i", '{"review": " "}')
    refused(capsys, 3, "run", "-t", "SA", "-i", '{"review": ')
    assert "absent.json" in refused(capsys, 3, "run", "-t", "SA", "-i", str(tmp_path / "absent.json"))
    assert "--rows" in refused(capsys, 3, "run", "-t", "SA", "-i", '[{"review": "x"}]')
    refused(capsys, 3, "run", "-t", "SA", "-i", "")
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf[\n {"review": "x"}\n]')
    assert "a.json" in refused(capsys, 3, "run", "-t", "SA", "--rows", str(tmp_path / "a.json"))
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,good\n")
    assert "--map" in refused(capsys, 2, "run", "-t", "SA", "--rows", str(tmp_path / "a.csv"))
    (tmp_path / "list.json").write_text("[1]")
    refused(capsys, 3, "run", "-t", "SA", "-i", str(tmp_path / "list.json"))
    (tmp_path / "bytes.json").write_bytes(b'{"review": "\xff"}')
    assert "UTF-8" in refused(capsys, 3, "run", "-t", "SA", "-i", str(tmp_path / "bytes.json"))
    assert "absent.jsonl" in refused(capsys, 3, "run", "-t", "SA", "--rows", str(tmp_path / "absent.jsonl"))


def test_a_grammar_that_does_not_parse_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "bad.lark").write_text("start: ((")
    (tmp_path / "bad.json").write_text('{"type": "nonsense"}')
    example = str(EXAMPLES / "answer_generation.json")
    for option, file in (("--grammar", "bad.lark"), ("--schema", "bad.json")):
        refused(capsys, 3, "run", "-t", "AG", "-i", example, option, str(tmp_path / file))


def test_a_row_longer_than_the_context_is_refused(capsys: pytest.CaptureFixture[str], demo_model: StoredModel) -> None:
    row = json.dumps({"review": "long " * 500})
    arguments = ["run", "-t", "SA", "-i", row, "--context", "256"]
    sentence = refused(capsys, 3, *arguments)
    assert "256" in sentence
    assert "--shorten" in sentence
    answer = answered(capsys, *arguments, "--shorten", "--json")
    assert re.fullmatch(r"review: the first \d+ of 500 words", answer["shortened"])
    assert answer["usage"]["prompt_tokens"] < 256
    assert "--show-prompt" in refused(capsys, 2, *arguments, "--shorten", "--show-prompt")


def test_a_job_counts_what_it_shortened(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, demo_model: StoredModel
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"review": "long " * size}) + "\n" for size in (1, 500, 2)))
    assert run_command(["run", "-t", "SA", "--rows", str(rows), "--context", "256", "--shorten"]) == 0
    output = capsys.readouterr()
    assert [json.loads(line)["shortened"] is None for line in output.out.splitlines()] == [True, False, True]
    assert "1 shortened" in output.err


def test_a_terminal_is_told_what_was_shortened() -> None:
    from rich.console import Console

    from ecellm_lite import Runtime
    from ecellm_lite.cli.show import show_answer
    from ecellm_lite.engine.fake import FakeBackend

    row = {"review": "long " * 500}
    terminal = Console(file=io.StringIO(), width=120)
    with Runtime.over(FakeBackend(cells=1000)) as runtime:
        answer = runtime.answer("sentiment_analysis", row, shorten=True)
    show_answer(answer, TASKS["sentiment_analysis"].question(row).space, terminal)
    assert isinstance(terminal.file, io.StringIO)
    assert f"shortened · {answer.shortened}\n" in re.sub(" +\n", "\n", terminal.file.getvalue())


def test_a_job_has_a_line_for_each_row(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, demo_model: StoredModel
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(
        b'{"id": 1, "review": "good"}\n{"id": 2, "review": \n\n{"id": 3}\n[]\n'
        b'{"id": "\xff"}\n{"id": 4, "review": "bad"}'
    )
    output = tmp_path / "answers.jsonl"
    arguments = ["run", "-t", "SA", "--rows", str(rows), "--output", str(output)]
    assert run_command(arguments) == 5
    assert "4 of 6" in capsys.readouterr().err
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert [answer["id"] for answer in answers] == [1, None, 3, None, None, 4]
    assert "Line 2" in answers[1]["error"]["message"]
    assert [answer["error"] is None for answer in answers] == [True, False, False, False, False, True]
    assert not list(tmp_path.glob("*.part"))


def test_a_job_of_two_tasks_writes_a_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, demo_model: StoredModel
) -> None:
    pytest.importorskip("jinja2", reason="the report needs the extra eval")
    rows, output, page = tmp_path / "rows.jsonl", tmp_path / "answers.csv", tmp_path / "page.html"
    row = {"review": "good", "question": "Is it?", "documents": ["It is."]}
    rows.write_text(json.dumps(row) + "\n")
    arguments = ["run", "-t", "SA", "-t", "AP", "--rows", str(rows), "-o", str(output), "--report", str(page)]
    assert run_command(arguments) == 0
    header = output.read_text().splitlines()[0].split(",")
    assert [name for name in header if name.endswith("answer")] == [
        "sentiment_analysis.answer",
        "answerability_prediction.answer",
    ]
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert run_command([*arguments, "--review-below", "0.5", "--preview", "1"]) == 0
    assert capsys.readouterr().out.count("### Instruction") == 2


def test_a_field_is_set_for_all_rows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, demo_model: StoredModel
) -> None:
    rows, output = tmp_path / "rows.csv", tmp_path / "answers.csv"
    rows.write_text("title\nBlue mug\n")
    arguments = ["run", "-t", "AVE", "--quiet", "--rows", str(rows), "-o", str(output), "--set"]
    assert run_command([*arguments, "attributes=color,size"]) == 0
    assert output.read_text().startswith("title,color,color.written,size,size.written,")
    assert "--set" in refused(capsys, 2, *arguments, "attributes=color", "--set", "attributes=size")


def test_several_tasks_need_a_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    both = ["run", "-t", "SA", "-t", "PM"]
    assert "--input" in refused(capsys, 2, *both, "-i", REVIEW)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(REVIEW + "\n")
    assert "--instruction" in refused(capsys, 2, *both, "--rows", str(rows), "--instruction", "Rate it.")
    assert "--max-tokens" in refused(capsys, 2, *both, "--rows", str(rows), "--max-tokens", "9")
    assert "sentiment_analysis" in refused(capsys, 2, "run", "-t", "SA", "-t", "SA", "--rows", str(rows))
    assert "--report" in refused(capsys, 2, "run", "-t", "SA", "-i", REVIEW, "--report", str(tmp_path / "x.html"))


def test_a_job_without_failures_exits_with_0(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, demo_model: StoredModel
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": "a", "review": "good"}\n{"id": "b", "input": {"review": "bad"}}\n')
    assert run_command(["run", "-t", "SA", "--rows", str(rows), "--quiet"]) == 0
    output = capsys.readouterr()
    assert [json.loads(line)["id"] for line in output.out.splitlines()] == ["a", "b"]
    assert output.err == ""


def test_a_job_with_an_unwritable_output_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, demo_model: StoredModel
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"review": "good"}\n')
    sentence = refused(capsys, 3, "run", "-t", "SA", "--rows", str(rows), "-o", str(tmp_path / "no" / "x.jsonl"))
    assert "x.jsonl" in sentence
    assert str(tmp_path) in refused(capsys, 3, "run", "-t", "SA", "--rows", str(rows), "-o", str(tmp_path))
    assert "--output" in refused(capsys, 2, "run", "-t", "SA", "--rows", str(rows), "-o", str(rows))


def test_a_job_shows_its_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from ecellm_lite import Runtime
    from ecellm_lite.cli import progress
    from ecellm_lite.engine.fake import FakeBackend

    terminal = Console(force_terminal=True, file=io.StringIO(), width=120)
    monkeypatch.setattr(progress, "Console", lambda **_: terminal)
    with Runtime.over(FakeBackend()) as runtime, progress.rows_progress(3, hidden=False) as advance:
        for answer in runtime.answers("sentiment_analysis", [{"review": "x"}, {}, {"review": "y"}]):
            advance(answer)
    assert isinstance(terminal.file, io.StringIO)
    shown = terminal.file.getvalue()
    assert "3/3" in shown
    assert "rows/s" in shown
    assert "1 failed" in shown


def test_tasks_are_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["tasks"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in TASKS)
    described = answered(capsys, "tasks", "--json")
    assert [one["name"] for one in described] == [*TASKS, "category_classification"]
    one = answered(capsys, "tasks", "PM", "--json")
    assert one["example"] == TASKS["product_matching"].example()
    assert run_command(["tasks", "query_product_ranking"]) == 0
    text = capsys.readouterr().out
    assert "products" in text
    assert "ranking" in text


def test_doctor_reports_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    report = answered(capsys, "doctor", "--json")
    assert report["ok"] is True
    states = {check["name"]: check["state"] for check in report["checks"]}
    assert states["llama.cpp"] == "ok"
    assert {"machine", "GPU", "kernels", "store"} <= set(states)
    assert run_command(["doctor"]) == 0


def test_doctor_says_how_a_model_runs_in_deterministic_mode(
    capsys: pytest.CaptureFixture[str], demo_model: StoredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECELLM_PROMPT_KERNELS", "off")
    report = answered(capsys, "doctor", "--model", demo_model.manifest.name, "--json")
    [check] = [check for check in report["checks"] if check["name"] == "deterministic mode"]
    assert check["state"] == "note"
    assert "switched off" in check["finding"]


def test_the_shell_completes_commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_ECELLM_LITE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "ecellm-lite run --task product_m")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit):
        run_command([])
    assert "plain,product_matching" in capsys.readouterr().out


def test_an_internal_fault_is_one_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecellm_lite.tasks.registry.get_task", lambda name: 1 / 0)
    assert "--debug" in refused(capsys, 1, "tasks", "SA")
    assert run_command(["tasks", "SA", "--debug"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_debug_adds_a_traceback_and_keeps_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["run", "-t", "SA", "-i", "{}", "--debug"]) == 3
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.splitlines()[-1].startswith("ecellm-lite: ")


@pytest.mark.parametrize("arguments", [[], ["models"]])
def test_without_a_command_the_help_is_shown(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(arguments) == 2
    assert capsys.readouterr().err.startswith("Usage: ecellm-lite")


def test_a_row_cannot_move_the_cursor() -> None:
    from rich.console import Console

    from ecellm_lite import Runtime
    from ecellm_lite.cli.show import show_answer
    from ecellm_lite.engine.fake import FakeBackend

    hostile = "\x1b]0;owned\x07\x1b[2J\u202eone\x9b1m [red]not markup[/red]"
    rows: dict[str, dict[str, Any]] = {
        "sequential_recommendation": {"history": ["a"], "candidates": [hostile, hostile]},
        "query_product_ranking": {"query": "q", "products": [hostile, hostile]},
        "attribute_value_extraction": {"title": hostile, "attributes": [hostile]},
    }
    with Runtime.over(FakeBackend()) as runtime:
        for name, row in rows.items():
            console = Console(record=True, width=200, file=io.StringIO(), color_system=None)
            show_answer(runtime.answer(name, row), TASKS[name].question(row).space, console)
            shown = console.export_text()
            assert not set("\x1b\x07\x9b\u202e") & set(shown)
            assert "[red]not markup[/red]" in shown or name == "attribute_value_extraction"
