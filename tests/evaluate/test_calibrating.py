"""Checks that calibrating corrects an overconfident engine, whose logits are three times too large."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ecellm_lite import InputError, Runtime
from ecellm_lite.answers.calibration import tempered
from ecellm_lite.answers.decoding import Logits
from ecellm_lite.engine.fake import FakeBackend, scattered
from ecellm_lite.evaluate.calibrating import CalibrationResult, calibrate_task
from ecellm_lite.evaluate.labelled import Labelled, labelled
from ecellm_lite.evaluate.reliability import reliability
from ecellm_lite.evaluate.results import DataFile
from ecellm_lite.models.calibrations import Calibrations
from ecellm_lite.tasks.registry import TASKS
from tests.support.answer_checks import EXAMPLES
from tests.support.drawn_cases import MODEL
from tests.support.refusals import refusal

pytest.importorskip("scipy", reason="fitting a temperature needs the extra 'eval'")


DATA = DataFile("reviews.jsonl", "a" * 64)
SA = TASKS["sentiment_analysis"]


def too_sure(tokens: Sequence[int]) -> Logits:
    return (scattered(tokens) * 6).astype(np.float32)


def reviews(count: int, seed: int, **more: Any) -> list[Labelled]:
    """Return rows for which the engine is overconfident: a temperature of 3 calibrates it.

    Each row's label is drawn with the engine's probabilities at a temperature of 3.

    `more`: fields that each row has in addition to its review.
    """
    generator = np.random.default_rng(seed)
    rows = [{"review": f"row {seed} {number}", **more} for number in range(count)]
    with Runtime.over(FakeBackend(too_sure)) as runtime:
        shares = [list((answer.probabilities or {}).values()) for answer in runtime.answers(SA, rows)]
    options = json.loads(str(SA.question(rows[0]).options))
    return [
        labelled(SA, number, {**row, "output": options[generator.choice(5, p=tempered(share, 3.0))]})
        for number, (row, share) in enumerate(zip(rows, shares, strict=True), start=1)
    ]


def fair(tokens: Sequence[int]) -> Logits:
    return (scattered(tokens) * 2).astype(np.float32)


LEANING = scattered([1]) * 4


def leaning(tokens: Sequence[int]) -> Logits:
    """Return logits that prefer some tokens to others, whatever the prompt is."""
    return (fair(tokens) + LEANING).astype(np.float32)


def calibrated_by(rows: Sequence[Labelled]) -> CalibrationResult:
    with Runtime.over(FakeBackend(too_sure), name=MODEL) as runtime:
        return calibrate_task(runtime, SA, rows, DATA)


def test_a_fitted_calibration_calibrates_other_rows() -> None:
    calibration = calibrated_by(reviews(150, seed=1)).calibration
    assert calibration is not None
    assert calibration.temperature == pytest.approx(3, rel=0.25)
    assert (calibration.scope.task, calibration.scope.model, calibration.data) == (SA.name, MODEL.sha256, DATA.name)

    calibrations = Calibrations(MODEL.sha256, "alpaca")
    calibrations.named = calibration
    unseen = reviews(300, seed=2)
    errors = []
    for used in (None, calibrations):
        with Runtime.over(FakeBackend(too_sure), name=MODEL, calibrations=used) as runtime:
            answers = list(runtime.answers(SA, [row.row for row in unseen]))
        assert {answer.calibration for answer in answers} == {calibration.name if used else None}
        right = [answer.text == row.gold for answer, row in zip(answers, unseen, strict=True)]
        measures = reliability([answer.probability or 0.0 for answer in answers], right)
        assert measures is not None
        errors.append(measures.ece)
    before, after = errors
    assert after < 0.1 < 0.2 < before


@pytest.mark.slow
def test_many_rows_that_show_a_preferred_option_give_a_correction_by_option() -> None:
    rows = [{"review": f"row {number}"} for number in range(310)]
    generator = np.random.default_rng(5)
    with Runtime.over(FakeBackend(fair)) as runtime:
        shares = [tuple((answer.probabilities or {}).values()) for answer in runtime.answers(SA, rows)]
    options = json.loads(str(SA.question(rows[0]).options))
    marked = [
        labelled(SA, number, {**row, "output": options[generator.choice(5, p=tempered(share, 1.0))]})
        for number, (row, share) in enumerate(zip(rows, shares, strict=True), start=1)
    ]
    with Runtime.over(FakeBackend(leaning), name=MODEL) as runtime:
        result = calibrate_task(runtime, SA, marked[:210], DATA, target_precision=0.6)
    calibration = result.calibration
    assert calibration is not None
    assert calibration.vector is not None
    assert (calibration.temperature, calibration.isotonic) == (1.0, None)
    assert calibration.methods is not None
    assert len(calibration.methods) == 3

    calibrations = Calibrations(MODEL.sha256, "alpaca")
    calibrations.named = calibration
    right = []
    for used in (None, calibrations):
        with Runtime.over(FakeBackend(leaning), name=MODEL, calibrations=used) as runtime:
            answers = list(runtime.answers(SA, [row.row for row in marked[210:]]))
        right.append(sum(answer.text == row.gold for answer, row in zip(answers, marked[210:], strict=True)))
        assert all(answer.probability == max((answer.probabilities or {}).values()) for answer in answers)
    before, after = right
    assert after > before


def test_rows_of_another_wording_and_failed_rows_are_counted_and_left_out() -> None:
    rows = reviews(20, seed=3)
    wire = {"instruction": "Rate it.", "input": "Good.", "options": SA.question({"review": "x"}).options}
    other = labelled(SA, 21, {**wire, "output": "A: very positive"})
    failing = labelled(SA, 22, {"review": "long " * 5000, "output": "A: very positive"})
    result = calibrated_by([*rows, other, failing])
    assert result.fit is not None
    assert (result.fit.rows, result.failed, result.others) == (20, 1, 1)
    with refusal(InputError, "sentiment_analysis"):
        calibrated_by([other])


def test_too_few_rows_are_refused() -> None:
    result = calibrated_by(reviews(6, seed=4))
    assert (result.fit, result.calibration) == (None, None)
    assert "10" in str(result.refusal)
    assert "6" in str(result.refusal)


def test_free_text_is_not_calibrated() -> None:
    task = TASKS["answer_generation"]
    row = labelled(task, 1, {**EXAMPLES["answer_generation"], "output": "yes"})
    with Runtime.over(FakeBackend()) as runtime, refusal(InputError, "answer_generation", "text"):
        calibrate_task(runtime, task, [row], DATA)


def test_options_that_differ_by_row_are_not_part_of_the_scope() -> None:
    task = TASKS["sequential_recommendation"]
    rows = [
        labelled(task, place, {"history": ["a"], "candidates": ["b", f"c {place}"], "output": "A"})
        for place in range(12)
    ]
    with Runtime.over(FakeBackend(), name=MODEL) as runtime:
        assert calibrate_task(runtime, task, rows, DATA).scope.options is None
    assert calibrated_by(reviews(6, seed=4)).scope.options is not None
