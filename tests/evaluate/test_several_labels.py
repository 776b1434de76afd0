"""Tests the evaluation and calibration of custom tasks with several labels per row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console

from ecellm_lite import InputError, ModelError, Runtime, UsageError, load_task
from ecellm_lite.answers.calibration import Correction
from ecellm_lite.answers.decoding import Logits
from ecellm_lite.answers.several_labels import SeveralLabels
from ecellm_lite.cli.measured import show_results
from ecellm_lite.engine.fake import FakeBackend, FakeVocabulary, scattered
from ecellm_lite.evaluate.calibrating import calibrate_task
from ecellm_lite.evaluate.comparison import compare
from ecellm_lite.evaluate.labelled import Labelled, labelled
from ecellm_lite.evaluate.metrics.labels import measure_labels
from ecellm_lite.evaluate.metrics.measured import Pair
from ecellm_lite.evaluate.results import DataFile, read_results
from ecellm_lite.evaluate.run import prepare_evaluation
from ecellm_lite.models.calibrations import Calibrations, read_calibration
from ecellm_lite.tasks.task import Task
from tests.support.drawn_cases import MODEL
from tests.support.own_tasks import ANSWERS, task_text

sklearn = pytest.importorskip("sklearn.metrics", reason="the metrics are held against scikit-learn (extra 'eval')")

LABELS = ("size", "color", "smell")
SPACE = SeveralLabels(LABELS, (0.5,) * 3, 0, 3)
SETS = st.sets(st.sampled_from(LABELS)).map(SPACE.text_of)
SHARES, FACTORS, BIASES = st.floats(0.01, 0.99), st.floats(0.5, 2.0), st.floats(-3.0, 3.0)
DATA = DataFile("mails.jsonl", "a" * 64)
TOPICS = """
name = "topics"
summary = "Topics."
instruction = "Which topics does the mail have?"
[[fields]]
name = "mail"
[answer]
type = "labels"
choices = [{ value = "size" }, { value = "color" }, { value = "smell" }]
"""


@pytest.fixture
def topics(tmp_path: Path) -> Task:
    """Return a task with three labels."""
    path = tmp_path / "topics.toml"
    path.write_text(TOPICS)
    return load_task(path)


def flags(texts: Iterable[str | None]) -> NDArray[np.bool_]:
    """Return an array of booleans (texts, labels): whether each text has each label.

    An unreadable text has no label.
    """
    known = [[] if text in (None, "weight") else SPACE.parse(text or "") for text in texts]
    return np.array([[label in labels for label in LABELS] for labels in known])


@given(st.lists(st.builds(Pair, SETS, SETS | st.none() | st.just("weight")), min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
def test_the_metrics_are_those_of_scikit_learn(pairs: list[Pair]) -> None:
    measured = measure_labels(pairs, SPACE)
    paper, every = measured.values()
    answered = [pair for pair in pairs if pair.text not in (None, "weight")]
    assert measured.answered == [pair in answered for pair in pairs]
    for metrics, group in ((every, pairs), (paper, answered)):
        if not group:
            continue
        gold, answers = flags(pair.gold for pair in group), flags(pair.text for pair in group)
        occurring = (gold | answers).any(axis=0)
        micro = sklearn.f1_score(gold, answers, average="micro", zero_division=0)
        assert metrics["micro_f1"] == pytest.approx(micro)
        each = sklearn.f1_score(gold, answers, average=None, zero_division=0)
        assert metrics["macro_f1"] == pytest.approx(each[occurring].mean() if occurring.any() else 0.0)
        right = (gold == answers).all(axis=1) & [pair in answered for pair in group]
        assert metrics["exact"] == pytest.approx(right.mean())
    gold, answers = flags(pair.gold for pair in pairs), flags(pair.text for pair in pairs)
    table = sklearn.precision_recall_fscore_support(gold, answers, average=None, zero_division=0)
    assert measured.labels is not None
    for column, name in zip(table, ("precision", "recall", "f1", "gold"), strict=True):
        assert [getattr(label, name) for label in measured.labels] == pytest.approx(list(column))


def test_a_row_takes_little_memory_however_many_labels_there_are() -> None:
    names = tuple(f"label {number}" for number in range(200))
    measured = measure_labels([Pair(name, name) for name in names], SeveralLabels(names, (0.5,) * 200, 0, 200))
    assert measured.columns.nbytes / len(names) < 100
    assert measured.values()[1] == dict.fromkeys(("micro_f1", "macro_f1", "precision", "recall", "exact"), 1.0)


def test_a_file_with_lists_of_labels_is_evaluated(topics: Task, tmp_path: Path) -> None:
    rows = [
        {"input": {"mail": "a"}, "output": ["color", "size"]},
        {"input": {"mail": "b"}, "output": []},
        {"input": {"mail": "c"}, "output": "smell"},
        {"input": {"mail": "d"}, "output": ["weight"]},
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluation = prepare_evaluation(data, [topics])
    with Runtime.over(FakeBackend()) as runtime:
        results = evaluation.run(runtime)
    task = results.tasks["topics"]
    assert (task.rows, task.failed, len(task.unreadable), task.abbreviation) == (3, 0, 1, "topics")
    assert [record.gold for record in task.records] == ["size, color", "none", "smell"]
    assert task.reliability is not None
    assert task.reliability.count == 9
    assert task.labels is not None
    assert [label.gold for label in task.labels] == [1, 1, 1]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results.as_dict()))
    assert read_results(path) == results
    compared = compare(results, read_results(path)).tasks["topics"]
    assert compared.difference == 0.0
    assert compared.before == pytest.approx(task.metrics.all["micro_f1"])
    console = Console(file=StringIO(), width=200)
    show_results(results, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert [label for label in (*LABELS, "micro-F1", "macro-F1") if label not in shown] == []


def test_the_report_has_a_line_for_each_label(topics: Task, tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="the report needs the extra 'eval'")
    from ecellm_lite.evaluate.report.page import page

    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"input": {"mail": "a"}, "output": ["color"]}) + "\n")
    with Runtime.over(FakeBackend()) as runtime:
        html = page(prepare_evaluation(data, [topics]).run(runtime))
    assert [label for label in LABELS if f"<bdi>{label}</bdi>" not in html] == []


def test_custom_tasks_of_other_types_are_refused(topics: Task, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(task_text(ANSWERS["ranking"]))
    own = load_task(path)
    with pytest.raises(UsageError):
        prepare_evaluation(tmp_path, [own])
    with pytest.raises(InputError) as raised:
        labelled(own, 1, {"question": "x", "notes": ["y"], "output": ["yes"]})
    assert raised.value.field == "output"
    with pytest.raises(InputError):
        labelled(topics, 1, {"mail": "x", "output": {"size": 1}})


def too_ready(tokens: Sequence[int]) -> Logits:
    """Return pseudo-random logits that favor the answer "yes" too much."""
    logits = scattered(tokens) * 2
    logits[FakeVocabulary().tokenize("yes")[0]] += 2
    return logits.astype(np.float32)


SHARED = Correction(1.0, -2.0)


def drawn(task: Task, count: int, seed: int, **own: Correction) -> list[Labelled]:
    """Return rows with random gold labels.

    The chance that a row gets a label is the model's probability for the label, after a Correction. `own` has the
    Correction of some labels. All other labels have the Correction SHARED.
    """
    generator = np.random.default_rng(seed)
    rows = [{"mail": f"mail {seed} {number}"} for number in range(count)]
    with Runtime.over(FakeBackend(too_ready)) as runtime:
        answers = list(runtime.answers(task, rows))
    return [
        labelled(task, number, {**row, "output": [
            label for label, share in (answer.probabilities or {}).items()
            if generator.random() < own.get(label, SHARED).odds(share)
        ]})
        for number, (row, answer) in enumerate(zip(rows, answers, strict=True), 1)
    ]  # fmt: skip


def test_a_calibration_corrects_the_chosen_labels(topics: Task, tmp_path: Path) -> None:
    rows = drawn(topics, 100, seed=1)
    with Runtime.over(FakeBackend(too_ready), name=MODEL) as runtime:
        result = calibrate_task(runtime, topics, rows, DATA, target_precision=0.6)
    calibration = result.calibration
    assert calibration is not None
    assert calibration.temperature == pytest.approx(1, rel=0.3)
    assert calibration.bias == pytest.approx(-2, abs=0.7)
    assert calibration.after.log_likelihood > calibration.before.log_likelihood
    assert calibration.automatic is not None
    calibration.write(tmp_path / "topics.json")
    calibrations = Calibrations(MODEL.sha256, "alpaca")
    calibrations.named = read_calibration(tmp_path / "topics.json")
    unseen = drawn(topics, 60, seed=2)
    right = []
    for used in (None, calibrations):
        with Runtime.over(FakeBackend(too_ready), name=MODEL, calibrations=used) as runtime:
            answers = list(runtime.answers(topics, [row.row for row in unseen]))
        right.append(sum(answer.text == row.gold for answer, row in zip(answers, unseen, strict=True)))
    assert right[1] > right[0]


def test_a_label_that_needs_it_has_its_own_correction(topics: Task, tmp_path: Path) -> None:
    rows = drawn(topics, 150, seed=3, smell=Correction(1.0, 2.0))
    with Runtime.over(FakeBackend(too_ready), name=MODEL) as runtime:
        calibration = calibrate_task(runtime, topics, rows, DATA).calibration
    assert calibration is not None
    assert calibration.labels is not None
    assert calibration.labels["smell"].bias == pytest.approx(2, abs=1)
    path = tmp_path / "topics.json"
    calibration.write(path)
    calibrations = Calibrations(MODEL.sha256, "alpaca")
    calibrations.named = read_calibration(path)
    assert calibrations.named == calibration
    row = rows[0].row
    with Runtime.over(FakeBackend(too_ready), name=MODEL) as runtime:
        before = runtime.answer(topics, row).probabilities or {}
    with Runtime.over(FakeBackend(too_ready), name=MODEL, calibrations=calibrations) as runtime:
        after = runtime.answer(topics, row)
    shared = Correction(calibration.temperature, calibration.bias)
    assert after.calibration == calibration.name
    assert after.probabilities == {
        label: calibration.labels.get(label, shared).odds(share) for label, share in before.items()
    }
    for wrong in (Correction(1.0, 11.0), Correction(0.0, 0.0)):
        replace(calibration, labels={"size": wrong}).write(path)
        with pytest.raises(ModelError):
            read_calibration(path)
    replace(calibration, scope=replace(calibration.scope, type="extraction")).write(path)
    with pytest.raises(ModelError):
        read_calibration(path)


@given(SHARES, st.builds(Correction, FACTORS, BIASES), st.builds(Correction, FACTORS, BIASES))
def test_two_corrections_combine_into_one(share: float, first: Correction, second: Correction) -> None:
    assert first.then(second).odds(share) == pytest.approx(second.odds(first.odds(share)), abs=1e-6)
