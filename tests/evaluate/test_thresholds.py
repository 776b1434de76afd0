"""Tests that a threshold is high enough: of the answers that reach it, a given share (such as 95%) is right."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

pytest.importorskip("scipy", reason="thresholds need the extra 'eval'")

from benchmarks.automatic import both_ways
from ecellm_lite import Answer, Runtime
from ecellm_lite.answers.answer import ModelName
from ecellm_lite.envelopes import Envelope
from ecellm_lite.evaluate.calibrating import calibrate_task
from ecellm_lite.evaluate.labelled import labelled
from ecellm_lite.evaluate.results import DataFile
from ecellm_lite.evaluate.thresholds import Judged, automatic, least_rows, least_threshold, least_thresholds
from ecellm_lite.jobs.review import ReviewRule
from ecellm_lite.models.automatic import EVERY, Automatic
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.tasks.task import Task

if TYPE_CHECKING:
    from ecellm_lite.answerer import Answerer


def rows(count: int, seed: int, *, key: str = "yes") -> list[Judged]:
    """Return answers whose probabilities are well calibrated."""
    generator = np.random.default_rng(seed)
    probabilities = generator.uniform(0.5, 1.0, count)
    return [Judged(key, float(p), bool(generator.random() < p)) for p in probabilities]


def test_the_least_threshold_is_as_computed_by_hand() -> None:
    right = [Judged("yes", 1 - place / 1000, True) for place in range(93)]
    assert least_threshold(right, 0.95) == right[-1].probability
    assert least_threshold(right[:59], 0.95) == right[58].probability  # 0.95 ** 59 is 0.0485
    assert least_threshold(right[:58], 0.95) is None  # and 0.95 ** 58 is 0.0510
    wrong = Judged("yes", 0.5, False)
    assert least_threshold([*right[:92], wrong], 0.95) == 0.5  # one of 93
    assert least_threshold([*right[:91], wrong], 0.95) == right[90].probability  # one of 92 is too many
    # Equal probabilities cannot be separated.
    assert least_threshold([*right[:60], Judged("yes", right[59].probability, False)], 0.95) == right[58].probability
    assert least_threshold([Judged("yes", 1.0, True, usual=False)] * 93, 0.95) is None
    assert least_threshold([], 0.95) is None


@pytest.mark.parametrize("precision", [0.8, 0.95])
@pytest.mark.parametrize("wrong", [0, 1])
def test_the_least_number_of_rows_is_the_rule_of_the_thresholds(precision: float, wrong: int) -> None:
    count = least_rows(precision, 5, wrong)
    answers = [Judged("a", 0.9, place >= wrong) for place in range(count)]
    keys = ["a", "b", "c", "d", "e"]
    assert least_thresholds(answers, precision, keys)["a"] == 0.9
    assert least_thresholds(answers[:-1], precision, keys)["a"] is None


def test_the_page_says_how_many_rows_each_answer_needs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "calibrate.md").read_text("utf-8")
    for target in (0.8, 0.9, 0.95):
        counts = [f"{least_rows(target, answers)} ({least_rows(target, answers, 1)})" for answers in (1, 2, 5, 10)]
        assert f"| {target:.0%} | {' | '.join(counts)} |" in page


def test_answers_above_a_threshold_have_the_requested_precision() -> None:
    """The rows' probabilities are spread evenly from 0.5 to 1.

    So above a threshold t, the share of right answers is (1 + t) / 2 on average.
    """
    thresholds = [least_threshold(rows(400, seed), 0.9) for seed in range(200)]
    finite = [threshold for threshold in thresholds if threshold is not None]
    assert len(finite) > 150
    assert np.mean([(1 + threshold) / 2 < 0.9 for threshold in finite]) < 0.1
    assert np.median(finite) < 0.9  # at 0.8 and above nine in ten are right


def test_held_out_rows_have_the_promised_precision() -> None:
    reached = []
    for seed in range(20):
        chosen = automatic(rows(2000, seed), 0.9, by_answer=True)
        assert chosen.reached is not None
        assert 0.1 < chosen.share < 0.4  # at 0.8 and above nine in ten are right: 40%
        reached.append(chosen.reached)
    assert min(reached) > 0.89


def test_each_answer_has_its_own_threshold() -> None:
    sure = [Judged("no", 0.6, True)] * 200
    wrong = [Judged("yes", 0.9, False)] * 200
    chosen = automatic([*sure, *wrong], 0.95, by_answer=True)
    assert chosen.thresholds == {"no": 0.6, "yes": None}
    assert (chosen.share, chosen.reached, chosen.rows) == (0.5, 1.0, 400)
    assert automatic([*sure, *wrong], 0.95, by_answer=False).thresholds == {EVERY: None}
    assert automatic([], 0.95, by_answer=True) == Automatic(0.95, {}, 0, 0.0, None)


def test_answers_share_the_allowed_error() -> None:
    """The allowed error of 5% is split between the two answers: each threshold may be wrong with a probability of 2.5%.

    At a precision of 95%, all of 72 answers are right with the probability 0.95 ** 72 = 0.0249, which is low enough.
    With 71 answers, the probability is 0.95 ** 71 = 0.0262, which is too high.
    """
    yes = [Judged("yes", 0.9, True)] * 72
    no = [Judged("no", 0.8, True)] * 71
    assert least_thresholds([*yes, *no], 0.95, ["no", "yes"]) == {"no": None, "yes": 0.9}
    assert least_thresholds(no, 0.95, ["no"]) == {"no": 0.8}
    assert least_thresholds(no[:59], 0.95, [EVERY]) == {EVERY: 0.8}


@pytest.mark.slow
@pytest.mark.data
def test_a_threshold_for_95_percent_holds_on_other_rows_of_product_matching(
    data: Path, demo: Runtime, tmp_path: Path
) -> None:
    """The threshold is chosen on one half of the rows and tested on the other half, for several ways of halving.

    At least 93% of the answers that reach the threshold must be right. Random halves may miss this goal, but in at
    most 5% of all tests.
    """
    task = TASKS["product_matching"]
    lines = (data / task.name / "test.jsonl").read_text("utf-8").splitlines()
    labelled_rows = [labelled(task, number, json.loads(line)) for number, line in enumerate(lines, 1)]
    answers = list(demo.answers(task, (row.row for row in labelled_rows), calibration=False))
    judged_rows = [
        Judged(answer.text, answer.probability, answer.text == row.gold)
        for row, answer in zip(labelled_rows, answers, strict=True)
        if answer.text is not None and answer.probability is not None
    ]
    assert len(judged_rows) == len(lines)
    places = np.arange(len(lines))
    generator = np.random.default_rng(1)
    halves = [places < len(places) // 2, places % 2 == 0]
    halves += [generator.permutation(places) < len(places) // 2 for _ in range(25)]
    parted = [half for first in halves for half in both_ways(judged_rows, first)]
    assert all(half.precision is None or half.precision >= 0.93 for half in parted[:4]), parted[:4]
    assert sum(half.precision is not None and half.precision < 0.93 for half in parted) <= 0.05 * len(parted)
    assert np.mean([half.share for half in parted]) > 0.4
    # The whole way once: `calibrate` keeps what `run --review-below auto` takes.
    middle = len(lines) // 2
    answerer = cast("Answerer", Kept(demo.model, demo.envelope, iter(answers[:middle])))
    file = DataFile("test.jsonl", "0" * 64)
    result = calibrate_task(answerer, task, labelled_rows[:middle], file, target_precision=0.95)
    assert result.calibration is not None
    result.calibration.write(tmp_path / "calibration.json")
    rule = ReviewRule(calibration=result.calibration)
    others = labelled_rows[middle:]
    calibrated = demo.answers(task, (row.row for row in others), calibration=tmp_path / "calibration.json")
    right = [answer.text == row.gold for row, answer in zip(others, calibrated, strict=True) if not rule.reason(answer)]
    assert sum(right) / len(right) >= 0.93
    assert len(right) / len(others) == pytest.approx(parted[0].share, abs=0.03)  # but for rows that look strange


@dataclass(slots=True)
class Kept:
    """An answerer that returns stored answers."""

    model: ModelName
    envelope: Envelope
    stored: Iterator[Answer]

    def answers(self, _: Task, rows: Iterable[object], **__: object) -> Iterator[Answer]:
        return (next(self.stored) for _ in rows)
