"""Tests that a model's file lists the tasks that the model is made for. Any other task gives a warning."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecellm_lite import Runtime
from ecellm_lite.cli.main import run_command
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.resolve import tasks_of
from ecellm_lite.models.store import Store
from ecellm_lite.tasks.registry import TASKS
from tests.support.small_checkpoints import factors, write_adapter
from tests.support.tiny_checkpoints import WIDTH, write_checkpoint

REVIEW = ["run", "--task", "sentiment_analysis", "--input", '{"review": "Good."}']


def convert(base: Path, target: Path, *more: str) -> tuple[str, ...]:
    arguments = ["convert", str(base), "-o", str(target), "--quant", "Q8_0", "--envelope", "alpaca", "--quiet"]
    assert run_command([*arguments, *more]) == 0
    tasks: tuple[str, ...] = tasks_of(read_header(target))
    return tasks


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("bases") / "mine", "smollm")


@pytest.fixture(scope="module")
def matcher(base: Path) -> Path:
    """Return a model whose file lists two tasks."""
    target = base.parent / "matcher.gguf"
    assert convert(base, target, "--tasks", "PM, Product_Matching,answer-generation") == (
        "product_matching",
        "answer_generation",
    )
    return target


def test_a_model_names_no_tasks_unless_they_are_known(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "eCeLLM-L.gguf"  # its contents decide, not its name
    assert convert(base, out) == ()
    assert "ecellm.tasks" not in read_header(out).metadata


@pytest.mark.slow
def test_a_bases_tasks_are_kept_unless_an_adapter_changes_it(matcher: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "lora", factors("model.layers.0.mlp.down_proj", WIDTH, 96))
    out = tmp_path / "out.gguf"
    published = write_checkpoint(tmp_path / "eCeLLM-L", "smollm")
    assert convert(published, out) == tuple(TASKS)
    assert convert(published, out, "--lora", str(adapter)) == ()
    assert convert(matcher, out) == ("product_matching", "answer_generation")
    assert convert(matcher, out, "--lora", str(adapter)) == ()
    assert convert(matcher, out, "--lora", str(adapter), "--tasks", "AG") == ("answer_generation",)


@pytest.mark.parametrize(
    ("names", "value"),
    [("sentiment_analysi", "sentiment_analysis"), ("PM,,SA", "--tasks"), ("", "--tasks")],
)
def test_unknown_task_names_are_refused(
    names: str, value: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["convert", str(base), "-o", str(tmp_path / "x.gguf"), "--envelope", "alpaca", "--tasks", names]
    assert run_command(arguments) == 2
    assert value in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_task_the_model_was_not_made_for_is_answered_with_one_warning(
    matcher: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([*REVIEW, "--model", str(matcher)]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["value"] in "ABCDE"
    [warning] = err.splitlines()
    assert all(
        word in warning for word in ("matcher.gguf", "product_matching, answer_generation", "sentiment_analysis")
    )
    assert run_command([*REVIEW, "--model", str(matcher), "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"review": "Good."}\n{"review": "Bad."}\n')
    arguments = ["--task", "sentiment_analysis", "--rows", str(rows), "--output", str(tmp_path / "out.jsonl")]
    assert run_command(["run", *arguments, "--model", str(matcher)]) == 0
    assert capsys.readouterr().err.splitlines().count(warning) == 1
    question = ["--task", "answer_generation", "--input", json.dumps(TASKS["answer_generation"].example())]
    assert run_command(["run", *question, "--model", str(matcher), "--max-tokens", "1"]) == 0
    assert capsys.readouterr().err == ""
    with Runtime(matcher) as runtime:
        assert runtime.intended_tasks == ("product_matching", "answer_generation")


def test_the_store_shows_a_models_tasks(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", str(base), "--quant", "Q8_0", "--envelope", "alpaca", "--quiet", "--name", "mine"]
    assert run_command([*arguments, "--tasks", "PM,SA"]) == 0
    try:
        assert run_command(["models", "show", "mine"]) == 0
        assert " product_matching, sentiment_analysis\n" in capsys.readouterr().out
        assert run_command(["models", "show", "mine", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["tasks"] == ["product_matching", "sentiment_analysis"]
    finally:
        Store().remove("mine")


@pytest.mark.parametrize(
    ("value", "tasks"),
    [(7, ()), ("a", ()), (np.arange(3), ()), ((), ()), (("a\udcff", "b"), ("a?", "b"))],
)
def test_invalid_task_names_in_a_file_are_ignored(value: Any, tasks: tuple[str, ...], matcher: Path) -> None:
    header = read_header(matcher)
    changed = dataclasses.replace(header, metadata={**header.metadata, "ecellm.tasks": value})
    assert tasks_of(changed) == tasks
