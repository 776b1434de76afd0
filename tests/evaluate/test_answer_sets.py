"""Tests of sets of plausible answers: how often they contain the right answer, and how a calibration stores them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import InputError, Runtime
from ecellm_lite.answers.answer import ModelName
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.errors import ModelError
from ecellm_lite.evaluate.answer_sets import Row, answer_sets, contains, least_probability, row_of
from ecellm_lite.evaluate.calibrating import calibrate_task
from ecellm_lite.evaluate.cases import case_of
from ecellm_lite.evaluate.labelled import Labelled
from ecellm_lite.evaluate.results import DataFile
from ecellm_lite.models.answer_sets import AnswerSets
from ecellm_lite.models.calibrations import Calibrations, read_calibration
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.sentiment_analysis import OPTIONS

MODEL = ModelName("fake", "a" * 64)
TASK = "sentiment_analysis"


def drawn(count: int, seed: int, trust: float) -> list[Row]:
    """Return rows answered by a simulated model.

    If `trust` is 1, its probabilities are calibrated. If `trust` is 0, they are unrelated to the right answer.
    """
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        shares = random.dirichlet(np.full(5, 0.3))
        right = random.choice(5, p=shares if random.random() < trust else None)
        rows.append(Row(tuple(shares.tolist()), float(shares[right])))
    return rows


@pytest.mark.parametrize("trust", [0.0, 0.5, 1.0])
def test_the_guarantee_holds_for_good_and_bad_models(trust: float) -> None:
    """Check that sets of plausible answers contain the right answer in 90% of the rows, as guaranteed.

    The mean share of 200 random splits is checked. It must be above 90% minus three standard errors, minus 1/300.
    """
    rows = drawn(600, 1, trust)
    random = np.random.default_rng(2)
    coverages = []
    for _ in range(200):
        order = random.permutation(len(rows))
        least = least_probability([rows[place] for place in order[:300]], 0.9)
        coverages.append(sum(contains(rows[place], least) for place in order[300:]) / 300)
    assert np.mean(coverages) > 0.9 - 3 * math.sqrt(0.9 * 0.1 / 300 / 200) - 1 / 300


@given(st.integers(1, 60), st.floats(0.5, 0.99), st.integers(0, 100))
def test_the_least_probability_covers_enough_of_its_own_rows(count: int, guarantee: float, seed: int) -> None:
    rows = drawn(count, seed, 1.0)
    sets = answer_sets(rows, guarantee)
    assert sum(contains(row, sets.least) for row in rows) >= min(count, math.ceil((count + 1) * guarantee))
    assert 0 <= sets.reached <= 1 <= sets.size <= 5
    sets.check()


def test_too_few_rows_for_the_guarantee_make_every_answer_plausible() -> None:
    sets = answer_sets(drawn(18, 3, 1.0), 0.95)
    assert sets.least == 0
    assert sets.answers({"A": 0.2, "B": 0.8, "C": 0.0}) == ["B", "A", "C"]


def test_a_set_contains_the_likeliest_answer_even_below_the_threshold() -> None:
    assert AnswerSets(0.9, 0.5, 20, 0.9, 1.2).answers({"A": 0.3, "B": 0.4, "C": 0.3}) == ["B"]


def labelled(count: int) -> list[Labelled]:
    return [Labelled(get_task(TASK), n + 1, {"review": f"Number {n}"}, OPTIONS[n % 5]) for n in range(count)]


def test_answers_of_a_calibrated_task_have_answer_sets(tmp_path: Path) -> None:
    with Runtime.over(FakeBackend(), name=MODEL) as runtime:
        result = calibrate_task(
            runtime, get_task(TASK), labelled(60), DataFile("rows", "b" * 64), coverage_guarantee=0.8
        )
    calibration = result.calibration
    assert calibration
    assert calibration.sets
    path = tmp_path / f"{TASK}.json"
    calibration.write(path)
    assert read_calibration(path) == calibration
    with Runtime.over(
        FakeBackend(), name=MODEL, calibrations=Calibrations(MODEL.sha256, "alpaca", tmp_path)
    ) as runtime:
        answers = list(runtime.answers(TASK, [row.row for row in labelled(60)]))
        plain = runtime.answer(TASK, {"review": "Number 1"}, calibration=False)
    assert plain.plausible is None
    golds = [OPTIONS[n % 5][0] for n in range(60)]
    assert sum(gold in (answer.plausible or ()) for gold, answer in zip(golds, answers, strict=True)) >= 0.8 * 60
    assert all(answer.plausible and answer.plausible[0] == answer.value for answer in answers)


@pytest.mark.parametrize("fault", [{"least": 1.5}, {"guarantee": -1}, {"rows": 0}, {"size": -1}])
def test_a_damaged_file_is_refused(tmp_path: Path, fault: dict[str, float]) -> None:
    with Runtime.over(FakeBackend(), name=MODEL) as runtime:
        result = calibrate_task(
            runtime, get_task(TASK), labelled(40), DataFile("rows", "b" * 64), coverage_guarantee=0.8
        )
    assert result.calibration
    assert result.calibration.sets
    path = tmp_path / f"{TASK}.json"
    replace(result.calibration, sets=replace(result.calibration.sets, **fault)).write(path)  # type: ignore[arg-type]
    assert json.loads(path.read_text())["sets"]
    with pytest.raises(ModelError):
        read_calibration(path)


def test_tasks_without_listed_answers_have_no_answer_sets() -> None:
    row = {"query": "lamp", "products": ["a", "b", "c"]}
    task = get_task("query_product_ranking")
    with Runtime.over(FakeBackend(), name=MODEL) as runtime:
        answer = runtime.answer(task, row)
    space = task.question(row).space
    with pytest.raises(InputError):
        row_of(answer, case_of(space, answer, "A,B,C"))
