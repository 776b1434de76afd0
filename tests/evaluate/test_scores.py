"""Tests the evaluation of a user's task that gives each row a score."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ecellm_lite import Answer, Runtime, load_task
from ecellm_lite.answers.score import Score
from ecellm_lite.cli.measured import show_comparison, show_results
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.evaluate import run
from ecellm_lite.evaluate.comparison import compare
from ecellm_lite.evaluate.evaluation import evaluate
from ecellm_lite.evaluate.labelled import Labelled
from ecellm_lite.evaluate.metrics.measured import Pair
from ecellm_lite.evaluate.metrics.scores import measure_scores
from ecellm_lite.evaluate.report import overview, standing
from ecellm_lite.evaluate.results import TaskResult, read_results
from ecellm_lite.evaluate.run import prepare_evaluation
from ecellm_lite.tasks.task import Task
from tests.support.own_tasks import ANSWERS, task_text

stats = pytest.importorskip("scipy.stats", reason="the metrics are held against scipy (extra 'eval')")

LEVELS = ("poor", "fair", "good", "great")
SPACE = Score(LEVELS, tuple("ABCD"))
LETTERS = st.sampled_from("ABCD")
ANSWERED = st.tuples(LETTERS, LETTERS, st.floats(1, 4).map(lambda position: round(position, 2)))
MISSING = st.tuples(LETTERS, st.none(), st.none())


@given(st.lists(ANSWERED | MISSING, min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
def test_the_metrics_are_those_of_scipy(rows: list[tuple[str, str | None, float | None]]) -> None:
    pairs = [Pair(gold, text, position=position) for gold, text, position in rows]
    measured = measure_scores(pairs, SPACE)
    paper, every = measured.values()
    answered = [(SPACE.parse(gold), position) for gold, _, position in rows if position is not None]
    assert measured.answered == [position is not None for _, _, position in rows]
    errors = [abs(gold - position) for gold, position in answered]
    worst = [max(SPACE.parse(gold) - 1, 4 - SPACE.parse(gold)) for gold, text, _ in rows if text is None]
    assert every["mae"] == pytest.approx(np.mean([*errors, *worst]))
    assert every["mae"] == pytest.approx(np.mean(measured.scores))
    assert every["accuracy"] == pytest.approx(np.mean([gold == text for gold, text, _ in rows]))
    assert paper["mae"] == pytest.approx(np.mean(errors) if errors else 0.0)
    varied = len({gold for gold, _ in answered}) > 1 and len({position for _, position in answered}) > 1
    for name, function in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        expected = float(function(*zip(*answered, strict=True)).statistic) if varied else 0.0
        assert paper[name] == pytest.approx(expected, abs=1e-6)
        assert every[name] == pytest.approx(expected, abs=1e-6)


def test_probabilities_of_all_options_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.toml"
    path.write_text(task_text(ANSWERS["many choices"], '[[fields]]\nname = "review"\n'))
    task = load_task(path)
    data = tmp_path / "rows.jsonl"
    rows = [{"review": f"r{place}", "output": f"desk {place}"} for place in range(3)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluation = prepare_evaluation(data, [task])
    kept: list[Answer] = []

    def spied(task: Task, rows: Sequence[Labelled], answers: Sequence[Answer], **options: Any) -> TaskResult:
        kept.extend(answers)
        return evaluate(task, rows, answers, **options)

    monkeypatch.setattr(run, "evaluate", spied)
    with Runtime.over(FakeBackend()) as runtime:
        results = evaluation.run(runtime)
        answers = list(runtime.answers(task, rows))
    assert [answer.probabilities for answer in kept] == [None] * 3
    result = results.tasks["own"]
    expected = evaluate(task, evaluation.rows.rows["own"], answers, seconds=1.0, prompt=lambda _: "")
    assert result.reliability == expected.reliability
    assert result.risk == expected.risk
    assert result.metrics == expected.metrics


def test_a_file_with_levels_is_evaluated_and_compared(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(task_text(ANSWERS["score"], '[[fields]]\nname = "review"\n'))
    task = load_task(path)
    levels = ("very bad", "bad", "good", "very good")
    data = tmp_path / "rows.jsonl"
    rows: list[dict[str, Any]] = [{"review": f"r{place}", "output": levels[place % 4]} for place in range(8)]
    data.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"review": "r8", "output": "excellent"}]))
    evaluation = prepare_evaluation(data, [task])
    with Runtime.over(FakeBackend()) as runtime:
        results = evaluation.run(runtime)
    result = results.tasks["own"]
    assert result.primary == "mae"
    assert result.interval.low <= result.metrics.all["mae"] <= result.interval.high
    assert "'very good'" in result.unreadable[0].message  # what to write, and not the letters that the model reads
    line = overview.draw(results)
    assert not line.lines[0].is_share
    assert standing.draw(line) is None  # its axis is from 0 to 1
    (tmp_path / "results.json").write_text(json.dumps(results.as_dict()))
    before = read_results(tmp_path / "results.json")
    worse = json.loads(json.dumps(results.as_dict()))
    record = worse["tasks"]["own"]["records"][3]
    record["score"] += 1.0
    (tmp_path / "worse.json").write_text(json.dumps(worse))
    comparison = compare(before, read_results(tmp_path / "worse.json"))
    changed = comparison.tasks["own"]
    assert (changed.better.count, changed.worse.rows) == (0, [4])
    assert changed.difference == pytest.approx(1 / 8)
    console = Console(file=StringIO(), width=200)
    show_results(before, console)
    show_comparison(comparison, console)
    assert isinstance(console.file, StringIO)
    assert f"Spearman {result.metrics.all['spearman']:.3f}" in console.file.getvalue()
