"""Tests of eval and calibrate on a user's task whose answer is one of several labels or "none of these"."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ecellm_lite import ModelError, Runtime, load_task
from ecellm_lite.answers.decoding import Logits
from ecellm_lite.answers.label_set import Labels, LabelSet
from ecellm_lite.answers.none_of_these import ChoiceOrNone, NoneRule
from ecellm_lite.answers.options import Option
from ecellm_lite.cli.measured import show_results
from ecellm_lite.engine.fake import FakeBackend, FakeVocabulary, scattered
from ecellm_lite.evaluate.calibrating import calibrate_task
from ecellm_lite.evaluate.comparison import compare
from ecellm_lite.evaluate.labelled import Labelled, labelled
from ecellm_lite.evaluate.metrics.choices import measure_choices
from ecellm_lite.evaluate.metrics.measured import Pair
from ecellm_lite.evaluate.none_fitting import NoneRow, fit_none
from ecellm_lite.evaluate.results import DataFile, read_results
from ecellm_lite.evaluate.run import prepare_evaluation
from ecellm_lite.models.calibrations import Calibrations, read_calibration
from ecellm_lite.tasks.task import Task
from tests.support.drawn_cases import MODEL

sklearn = pytest.importorskip("sklearn.metrics", reason="the metrics are held against scikit-learn (extra 'eval')")

DATA = DataFile("mails.jsonl", "a" * 64)
DESK = """
name = "desk"
summary = "A desk."
instruction = "Which desk?"
[[fields]]
name = "mail"
[answer]
type = "choice"
choices = [{ value = "billing" }, { value = "delivery" }, { value = "returns" }]
none = true
"""
NAMES = ("billing", "delivery", "returns", "none")
SPACE = ChoiceOrNone(tuple(map(Option, NAMES[:3], "ABC")), Option("none", "D"))
LETTERS = st.sampled_from("ABCD")


@pytest.fixture
def desk(tmp_path: Path) -> Task:
    """Return a task with three labels and the answer "none of these"."""
    path = tmp_path / "desk.toml"
    path.write_text(DESK)
    return load_task(path)


@given(st.lists(st.builds(Pair, LETTERS, LETTERS | st.none() | st.just("?")), min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
def test_the_metrics_are_those_of_scikit_learn(pairs: list[Pair]) -> None:
    measured = measure_choices(pairs, SPACE)
    paper, every = measured.values()
    answered = [pair for pair in pairs if pair.text not in (None, "?")]
    assert measured.answered == [pair in answered for pair in pairs]
    for metrics, group in ((every, pairs), (paper, answered)):
        if not group:
            continue
        gold, texts = [pair.gold for pair in group], [pair.text or "?" for pair in group]
        assert metrics["accuracy"] == pytest.approx(sklearn.accuracy_score(gold, texts))
        occurring = sorted({*gold, *texts} - {"?"})
        if "macro_f1" in metrics:
            expected = sklearn.f1_score(gold, texts, labels=occurring, average="macro", zero_division=0)
            assert metrics["macro_f1"] == pytest.approx(expected)
        none = sklearn.precision_recall_fscore_support(gold, texts, labels=["D"], zero_division=0)
        names = ("none_precision", "none_recall", "none_f1")
        assert [metrics[name] for name in names] == pytest.approx([float(part[0]) for part in none[:3]])


def test_very_many_answers_have_no_lines_of_their_own() -> None:
    names = [f"shelf {number}" for number in range(400)]
    space = LabelSet(Labels(names, names))
    measured = measure_choices([Pair(name, names[0]) for name in names], space)
    assert measured.labels == []
    assert measured.values()[1] == {"accuracy": pytest.approx(1 / 400)}


def test_a_row_takes_little_memory_however_many_answers_there_are() -> None:
    names = [f"shelf {number}" for number in range(200)]
    space = LabelSet(Labels(names, names))
    measured = measure_choices([Pair(name, name) for name in names], space)
    assert measured.columns.nbytes / len(names) < 100
    assert measured.values()[1] == {"accuracy": 1.0, "macro_f1": 1.0}


def strange(tokens: Sequence[int]) -> Logits:
    """Return logits that favor the labels' letters, but no letter if the prompt contains the word "strange"."""
    vocabulary = FakeVocabulary()
    logits = scattered(tokens)
    by = 0.0 if b"strange" in vocabulary.detokenize(tokens) else 3.0
    for letter in "ABC":
        logits[vocabulary.tokenize(letter)[0]] += by
    return logits


def mails(task: Task, count: int, seed: int) -> list[Labelled]:
    """Return labelled rows. Every third row has a mail with the word "strange", and the label "none".

    The labels of the other rows are drawn from the model's probabilities.
    """
    generator = np.random.default_rng(seed)
    rows = [{"mail": f"{'strange' if number % 3 == 0 else 'mail'} {seed} {number}"} for number in range(count)]
    with Runtime.over(FakeBackend(strange)) as runtime:
        answers = list(runtime.answers(task, rows))
    golds = []
    for row, answer in zip(rows, answers, strict=True):
        shares = {key: share for key, share in (answer.probabilities or {}).items() if key != "none"}
        weights = np.array(list(shares.values()))
        golds.append(
            "none" if "strange" in row["mail"] else str(generator.choice(list(shares), p=weights / weights.sum()))
        )
    return [
        labelled(task, place, {**row, "output": gold})
        for place, (row, gold) in enumerate(zip(rows, golds, strict=True), start=1)
    ]


def test_rows_are_labelled_with_values_or_letters(desk: Task) -> None:
    golds = [labelled(desk, 1, {"mail": "x", "output": output}).gold for output in (*NAMES, "A", "D")]
    assert golds == ["A", "B", "C", "D", "A", "D"]


def test_an_evaluation_measures_none(desk: Task, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({**row.row, "output": row.gold}) + "\n" for row in mails(desk, 30, seed=1)))
    evaluation = prepare_evaluation(data, [desk])
    with Runtime.over(FakeBackend(strange)) as runtime:
        results = evaluation.run(runtime)
    task = results.tasks["desk"]
    assert (task.rows, task.failed, task.primary) == (30, 0, "accuracy")
    assert task.labels is not None
    assert {label.label: label.gold for label in task.labels}["none"] == 10
    assert {"none_precision", "none_recall", "none_f1", "macro_f1"} <= task.metrics.all.keys()
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results.as_dict()))
    assert read_results(path) == results
    assert compare(results, read_results(path)).tasks["desk"].difference == 0.0
    console = Console(file=StringIO(), width=200)
    show_results(results, console)
    assert [name for name in NAMES if name not in console.file.getvalue()] == []  # type: ignore[attr-defined]


def test_a_calibration_has_a_rule_for_none(desk: Task, tmp_path: Path) -> None:
    rows = mails(desk, 150, seed=2)
    with Runtime.over(FakeBackend(strange), name=MODEL) as runtime:
        result = calibrate_task(runtime, desk, rows, DATA, target_precision=0.6, coverage_guarantee=0.9)
    assert result.none is not None
    assert (result.none.rows, result.none.unfitting, result.none.refusal) == (150, 50, None)
    assert result.none.after.f1 > max(0.9, result.none.before.f1)
    calibration = result.calibration
    assert calibration is not None
    assert calibration.none == result.none.rule
    path = tmp_path / "desk.json"
    calibration.write(path)
    calibrations = Calibrations(MODEL.sha256, "alpaca")
    calibrations.named = read_calibration(path)
    assert calibrations.named == calibration
    unseen = mails(desk, 60, seed=3)
    right = []
    for used in (None, calibrations):
        with Runtime.over(FakeBackend(strange), name=MODEL, calibrations=used) as runtime:
            answers = list(runtime.answers(desk, [row.row for row in unseen], min_probability=0.0))
        assert {answer.calibration for answer in answers} == {calibration.name if used else None}
        right.append(sum(answer.text == row.gold for answer, row in zip(answers, unseen, strict=True)))
        assert all(
            answer.value is not None for answer in answers if (answer.coverage or 0) > calibration.least_coverage
        )
    assert right[1] > right[0]
    replace(calibration, none=NoneRule(bias=1e9)).write(path)
    with pytest.raises(ModelError):
        read_calibration(path)


def test_rows_without_unfitting_ones_give_no_rule(desk: Task) -> None:
    rows = [row for row in mails(desk, 60, seed=4) if row.gold != "D"]
    with Runtime.over(FakeBackend(strange), name=MODEL) as runtime:
        assert calibrate_task(runtime, desk, rows, DATA).none is None


def test_a_rule_that_does_not_help_is_refused() -> None:
    generator = np.random.default_rng(5)
    rows = []
    for _ in range(200):
        outside = float(generator.uniform(0.05, 0.95))
        rows.append(NoneRow(bool(generator.random() < outside), outside, 0.5))
    fitted = fit_none(rows)
    assert fitted is not None
    assert fitted.refusal is not None
