"""Tests that an answer has no value if its probability is below the minimum."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from ecellm_lite import Runtime, UsageError
from ecellm_lite.answers.answer import ModelName
from ecellm_lite.cli.show import render
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs.tally import Tally
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.tasks.registry import TASKS
from tests.support.answer_checks import EXAMPLES
from tests.support.calibrations import CLOSED, MODEL, REVIEW, calibration_of, stored
from tests.support.refusals import refusal


@pytest.mark.parametrize("name", CLOSED)
def test_an_answer_below_the_least_probability_has_no_value(name: str) -> None:
    with Runtime.over(FakeBackend()) as plain:
        sure = plain.answer(name, EXAMPLES[name])
    assert sure.probability is not None
    with Runtime.over(FakeBackend()) as runtime:
        assert runtime.answer(name, EXAMPLES[name], min_probability=sure.probability).value == sure.value
        answer = runtime.answer(name, EXAMPLES[name], min_probability=float(np.nextafter(sure.probability, 1)))
    assert (answer.value, answer.text, answer.abstained, answer.error) == (None, None, True, None)
    assert (answer.probability, answer.probabilities) == (sure.probability, sure.probabilities)
    assert (answer.confidence, answer.coverage, answer.usage is None) == (sure.confidence, sure.coverage, False)
    from rich.console import Console

    space = TASKS[name].question(EXAMPLES[name]).space
    shown = []
    for one in (sure, answer):
        console = Console(file=io.StringIO(), width=120, record=True)
        console.print(render(one, space))
        shown.append(console.export_text().splitlines()[0])
    assert shown[0] != shown[1]  # what the row got no value for is not shown as its answer


def test_control_characters_of_rows_and_names_are_not_printed() -> None:
    from rich.console import Console

    row = {"input": json.dumps({"s\x1b[2J": "blue", "target attributes": "color"}), "instruction": "Find."}
    pair = {"input": json.dumps({"product 1": {"title": "a"}, "product 2": {"title": "b"}}), "options": "yes or no"}
    pair["instruction"] = "Say yes or no."
    with Runtime.over(FakeBackend(), name=ModelName("a\x1b[2Jb", "")) as runtime:
        for name, fields in (("attribute_value_extraction", row), ("product_matching", pair)):
            shown = io.StringIO()
            Console(file=shown, width=120).print(
                render(runtime.answer(name, fields), TASKS[name].question(fields).space)
            )
            assert "\x1b" not in shown.getvalue()
            assert "a\ufffd[2Jb" in shown.getvalue()


def test_free_text_never_abstains() -> None:
    with Runtime.over(FakeBackend()) as runtime:
        answer = runtime.answer("answer_generation", EXAMPLES["answer_generation"], min_probability=1.0)
    assert answer.abstained is False
    assert answer.value is not None


def test_the_calibrated_probability_decides(store: Store, model: StoredModel) -> None:
    with Runtime.over(FakeBackend(), name=MODEL) as plain:
        probability = plain.answer("SA", REVIEW).probability
    assert probability is not None
    calibrations = stored(store, model, calibration_of("sentiment_analysis", 10.0))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=calibrations) as runtime:
        answer = runtime.answer("SA", REVIEW, min_probability=probability)
    assert answer.abstained
    assert answer.calibration
    assert answer.probability is not None
    assert answer.probability < probability


def test_a_row_of_unusually_low_coverage_is_abstained_from_on_request(store: Store, model: StoredModel) -> None:
    calibrations = stored(store, model, calibration_of("sentiment_analysis", least_coverage=0.999))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=calibrations) as runtime:
        assert not runtime.answer("SA", REVIEW).abstained
        assert runtime.answer("SA", REVIEW, min_probability=0.0).abstained
        assert not runtime.answer("SA", REVIEW, min_probability=0.0, instruction="Rate it.").abstained
        assert not runtime.answer("SA", REVIEW, min_probability=0.0, calibration=False).abstained


def test_a_job_counts_abstentions_apart_from_failures() -> None:
    rows = [{"id": number, "review": f"row {number}"} for number in range(40)]
    rows[7] = {"id": 7}
    with Runtime.over(FakeBackend()) as runtime:
        answers = list(runtime.answers("SA", rows, min_probability=0.4))
    tally = Tally()
    for answer in answers:
        tally.count(answer)
    unsure = [answer for answer in answers if answer.probability is not None and answer.probability < 0.4]
    assert 0 < len(unsure) < 39
    assert (tally.rows, tally.failed, tally.abstained) == (40, 1, len(unsure))
    assert answers[7].abstained is False


@pytest.mark.parametrize("min_probability", [-0.1, 1.1, float("nan")])
def test_invalid_probabilities_are_refused(min_probability: float) -> None:
    with Runtime.over(FakeBackend()) as runtime, refusal(UsageError, settings=("min_probability",)):
        runtime.answer("SA", REVIEW, min_probability=min_probability)
