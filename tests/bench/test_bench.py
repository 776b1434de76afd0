"""Tests the command `bench`, its made-up rows, and the script that measures other programs for comparison."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.peers.grammar import gbnf
from benchmarks.peers.llama_server import LlamaServer
from benchmarks.peers.peer import PreparedRow
from benchmarks.throughput import CLASS, OURS, main
from ecellm_lite.answers.choice import lettered
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.text import Text
from ecellm_lite.bench import rates, tuner
from ecellm_lite.bench.rows import FixedLengthText, made_up_rows
from ecellm_lite.binding import llama
from ecellm_lite.cli.main import run_command
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.engine.settings import Settings
from ecellm_lite.engine.vocabulary import LlamaVocabulary
from ecellm_lite.errors import ContextError
from ecellm_lite.kernels import prompt
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.models.tuning import read_tuning
from ecellm_lite.runtime import Runtime
from ecellm_lite.tasks.registry import TASKS
from tests.support.commands import refused
from tests.support.tiny_models import write_tiny_model


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "SECONDS", 0.01)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", context=8192)


@pytest.mark.parametrize("name", TASKS)
def test_made_up_rows_differ_and_are_valid(name: str) -> None:
    rows = made_up_rows(TASKS[name], 12)
    assert rows == made_up_rows(TASKS[name], 12)
    questions = [TASKS[name].question(row) for row in rows]
    assert len({question.text for question in questions}) == 12
    example = TASKS[name].question(TASKS[name].example()).text
    assert all(sorted(question.text) == sorted(example) for question in questions)


def test_fixed_length_text_ignores_the_end_token() -> None:
    with Runtime.over(FakeBackend()) as runtime:
        answers = [
            runtime.answer("answer_generation", row, space=FixedLengthText(7))
            for row in made_up_rows(TASKS["answer_generation"], 3)
        ]
    # The model is not shown the last one.
    assert [answer.usage.decoded_tokens for answer in answers if answer.usage] == [6, 6, 6]


@pytest.mark.parametrize(("seconds", "rows"), [(0.125, 16), (0.001, 32), (60, 2)])
def test_a_task_is_measured_for_about_two_seconds(seconds: float, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "SECONDS", 2.0)
    clock = itertools.count(1000, seconds)
    monkeypatch.setattr(rates, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    with Runtime.over(FakeBackend()) as runtime:
        assert rates.rows_for(runtime, TASKS["sentiment_analysis"]) == rows


@pytest.mark.parametrize(("cells", "batch"), [(4096, 512), (300, 64), (64, 512)])
def test_prefill_and_decode_rates_fit_any_memory(cells: int, batch: int) -> None:
    backend = FakeBackend(cells=cells, batch=batch)
    assert rates.prefill_rate(backend) > 0
    assert rates.decode_rate(backend, 1) > 0
    assert rates.decode_rate(backend, 8) > 0


def test_a_failed_row_ends_the_measurement() -> None:
    backend = FakeBackend(cells=4096)
    backend.max_length = 64
    with Runtime.over(backend) as runtime, pytest.raises(ContextError):
        rates.row_rate(runtime, TASKS["product_matching"], 2)


@pytest.mark.slow
def test_bench_reports_the_rates_of_the_demo(demo_model: StoredModel, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", str(demo_model.path), "--envelope", "alpaca", "--rows", "1", "--threads", "1", "--json"]
    assert run_command(["bench", *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"]["sha256"] == demo_model.manifest.sha256
    assert list(report["rows_per_second"]) == list(TASKS)
    assert list(report["decode_tokens_per_second"]) == ["1", "8"]
    for number in (*report["rows_per_second"].values(), *report["decode_tokens_per_second"].values()):
        assert number > 0
    assert report["prefill_tokens_per_second"] > 0
    assert report["settings"]["micro_batch"] == Settings().micro_batch
    assert report["memory_bytes"] is None or report["memory_bytes"] > demo_model.manifest.size


def test_bench_shows_a_table(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bench", "--model", str(tiny), "--envelope", "alpaca", "--rows", "1", "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    assert {"tiny.gguf", "1", str(Settings().micro_batch)} <= set(shown.splitlines()[0].replace(",", "").split())
    assert all(name in shown for name in TASKS)


def test_bench_names_the_prompt_kernels_that_ran(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = next(name for name in ("neon", "avx2") if name not in prompt.runnable())
    options = ["bench", "--model", str(tiny), "--envelope", "alpaca", "--rows", "1", "--threads", "1"]
    assert run_command([*options, "--prompt-kernels", absent, "--json"]) == 0
    kernels = json.loads(capsys.readouterr().out)["prompt_kernels"]
    assert kernels["variant"] is None
    assert absent in kernels["reason"]
    assert run_command([*options, "--prompt-kernels", absent]) == 0
    assert "kernels off" in capsys.readouterr().out.splitlines()[0]


def test_nothing_is_measured_if_the_result_cannot_be_stored(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ECELLM_HOME", str(tmp_path))
    monkeypatch.setattr(tuner, "measuring", lambda *_, **__: pytest.fail("nothing is measured"))
    (tmp_path / "tuning").write_text("", "utf-8")  # in the place of a folder
    options = ["bench", "--model", str(tiny), "--envelope", "alpaca", "--tune", "--quiet"]
    assert str(tmp_path / "tuning") in refused(capsys, 4, *options)


def test_a_result_that_could_not_be_stored_is_shown(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tune(*_: object, **__: object) -> tuple[dict[str, Any], list[tuner.Trial]]:
        (tmp_path / "tuning").rmdir()
        (tmp_path / "tuning").write_text("", "utf-8")
        return {"micro_batch": 128}, []

    monkeypatch.setenv("ECELLM_HOME", str(tmp_path))
    monkeypatch.setattr(tuner, "measuring", lambda *_, **__: None)
    monkeypatch.setattr(tuner, "tune", tune)
    options = ["bench", "--model", str(tiny), "--envelope", "alpaca", "--tune", "--quiet", "--json"]
    assert run_command(options) == 4
    assert json.loads(capsys.readouterr().out)["settings"] == {"micro_batch": 128}


def test_tune_stores_its_settings_and_the_next_run_uses_them(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ECELLM_HOME", str(tmp_path))
    monkeypatch.delenv("ECELLM_PROMPT_KERNELS", raising=False)  # it is used instead of a stored setting
    monkeypatch.setattr(tuner, "ROUNDS", 1)
    monkeypatch.setattr(tuner, "CHOICES", {"micro_batch": (128,), "kv_type": ("f32",)})
    monkeypatch.setattr(tuner, "_kernels", lambda: ["avx2", "off"])
    options = ["bench", "--model", str(tiny), "--envelope", "alpaca", "--rows", "1"]
    assert run_command([*options, "--tune", "--threads", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    [path] = (Store().root / "tuning").iterdir()
    tuning = read_tuning(path)
    assert tuning is not None
    assert tuning.settings == report["settings"]
    assert [trial["setting"] for trial in report["trials"]] == [
        "prompt_kernels", "prompt_kernels", "micro_batch", "kv_type",
    ]  # fmt: skip
    assert run_command([*options, "--json"]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert {name: settings[name] for name in report["settings"]} == report["settings"]


def test_incompatible_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, 2, "bench", "--lossy")
    refused(capsys, 2, "bench", "--tune", "--deterministic")


class Grammar:
    """A GBNF grammar, read as llama.cpp reads it."""

    def __init__(self, vocabulary: LlamaVocabulary) -> None:
        self.vocabulary = vocabulary

    def takes(self, grammar: str, text: str) -> bool:
        sampler = llama.llama_sampler_init_grammar(self.vocabulary._pointer, grammar.encode(), b"root")
        assert sampler, grammar
        try:
            for token in [*self.vocabulary.tokenize(text), self.vocabulary.end]:
                data = llama.llama_token_data(token, 0.0, 0.0)
                offered = llama.llama_token_data_array(ctypes.pointer(data), 1, -1, False)
                llama.llama_sampler_apply(sampler, ctypes.byref(offered))
                if data.logit < 0:
                    return False
                # llama.cpp ends the process at a token that the grammar does not accept, so each was checked before.
                llama.llama_sampler_accept(sampler, token)
            return True
        finally:
            llama.llama_sampler_free(sampler)


@pytest.fixture(scope="module")
def grammar(demo_model: StoredModel) -> Iterator[Grammar]:
    parameters = llama.llama_model_default_params()
    parameters.vocab_only = True
    model = llama.llama_model_load_from_file(os.fsencode(demo_model.path), parameters)
    yield Grammar(LlamaVocabulary(model))
    llama.llama_model_free(model)


@pytest.mark.parametrize(
    ("space", "answers", "others"),
    [
        (Predicate(), ["yes", "no"], ["maybe", "yes, no", ""]),
        (lettered(["A: x", "B: y"], whole=False), ["A", "B"], ["C", "A: x"]),
        (lettered(['A: "x" \\ é', "B: y"], whole=True), ['A: "x" \\ é', "B: y"], ["A", "A: x"]),
        (Ranking(("A", "B", "C")), ["A,B,C", "C,A,B"], ["A,B", "A,B,C,A", "A,B,D", "A, B, C"]),
        (Ranking(("A",)), ["A"], ["A,A"]),
        (
            Extraction(("Color",), {"product title": "x"}),
            ['[{"attribute": "color", "value": "a \\"b\\" \\u00e9", "source": "product title"}]'],
            ["[]", '[{"attribute": "color"}]', '[{"value": "a", "attribute": "color", "source": "x"}]'],
        ),
    ],
)
def test_grammars_accept_only_possible_answers(
    space: Space, answers: list[str], others: list[str], grammar: Grammar
) -> None:
    written = gbnf(space)
    assert written is not None
    assert [grammar.takes(written, text) for text in answers] == [True] * len(answers)
    assert [grammar.takes(written, text) for text in others] == [False] * len(others)


def test_free_text_has_no_grammar() -> None:
    assert gbnf(Text()) is None


@pytest.mark.data
@pytest.mark.parametrize("name", [name for name in TASKS if name != "answer_generation"])
def test_grammars_accept_the_gold_answers(name: str, data: Path, grammar: Grammar) -> None:
    for line in (data / name / "test.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        written = gbnf(TASKS[name].question(row).space)
        assert written is not None
        assert grammar.takes(written, row["output"]), row["id"]


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Return a folder of made-up rows in place of real labelled rows."""
    for task in TASKS.values():
        (tmp_path / "data" / task.name).mkdir(parents=True)
        rows = "".join(json.dumps(row) + "\n" for row in made_up_rows(task, 12))
        (tmp_path / "data" / task.name / "test.jsonl").write_text(rows, "utf-8")
    return tmp_path / "data"


def measured(tiny: Path, labelled: Path, *more: str) -> tuple[dict[str, Any], str]:
    output, figure = labelled / "throughput.json", labelled / "throughput.svg"
    options = [
        "--data", str(labelled), "--model", str(tiny), "--envelope", "alpaca", "--rows", "2", "--repeats", "1",
        "--threads", "1", "--output", str(output), "--figure", str(figure), *more,
    ]  # fmt: skip
    result = CliRunner().invoke(main, options, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(output.read_text("utf-8")), figure.read_text("utf-8")


@pytest.mark.slow
def test_throughput_measures_without_a_server(tiny: Path, labelled: Path) -> None:
    results, figure = measured(tiny, labelled)
    assert list(results["tasks"]) == list(TASKS)
    assert results["server"] == "left out"
    assert set(results["geometric_means"]) == {CLASS}
    for task in results["tasks"].values():
        assert task["rows"] == 2
        assert set(task["rows_per_second"]) == {OURS, CLASS}
        assert task["failures"] == {OURS: 0, CLASS: 0}
        parts = {part: share for part, share in task["time"].items() if part not in {"calls", "tokens"}}
        assert sum(parts.values()) == pytest.approx(1, abs=0.001)
        # The backend was given what the runtime says it computed, and again what a row had read that made room.
        assert task["tokens_computed"] <= task["time"]["tokens"] < 1.5 * task["tokens_computed"]
    assert figure.count('<rect class="p0"') == len(TASKS) + 1


def test_a_row_that_a_peer_cannot_answer_is_counted(tiny: Path, labelled: Path) -> None:
    path = labelled / "sentiment_analysis" / "test.jsonl"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([json.dumps({"review": "far too long " * 2000}), *lines[1:]]) + "\n", "utf-8")
    results, _ = measured(tiny, labelled, "--task", "SA")
    assert results["tasks"]["sentiment_analysis"]["failures"] == {OURS: 1, CLASS: 1}


def test_a_server_that_does_not_start_is_reported(tiny: Path, labelled: Path, tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho no such model\nexit 3\n", "utf-8")
    program.chmod(0o755)
    result = CliRunner().invoke(
        main, ["--data", str(labelled), "--model", str(tiny), "--envelope", "alpaca", "--llama-server", str(program)]
    )
    assert result.exit_code == 1
    assert "no such model" in result.output


def test_a_server_that_answers_nothing_fails_on_every_row(tmp_path: Path) -> None:
    """The server in this test reports that it is healthy, but refuses every completion."""
    program = tmp_path / "llama-server"
    program.write_text(
        "#!/usr/bin/env python3\n"
        "import sys\n"
        "from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer\n"
        "class Handler(BaseHTTPRequestHandler):\n"
        "    def do_GET(self): self.send_response(200); self.end_headers()\n"
        "    def do_POST(self): self.send_response(400); self.end_headers(); self.wfile.write(b'{}')\n"
        "port = int(sys.argv[sys.argv.index('--port') + 1])\n"
        "ThreadingHTTPServer(('127.0.0.1', port), Handler).serve_forever()\n",
        "utf-8",
    )
    program.chmod(0o755)
    server = LlamaServer(program, tmp_path / "model.gguf", 1)
    try:
        done = server.run("sentiment_analysis", [PreparedRow({}, "Hello", None)] * 20)
    finally:
        server.close()
    assert (done.failures, done.answer_tokens) == (20, 0)
