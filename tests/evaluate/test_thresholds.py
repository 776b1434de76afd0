"""Thresholds: the least probability from which the answers are as precise as was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ecellm_lite import Runtime
from ecellm_lite.evaluate.calibrating import calibrate_task
from ecellm_lite.evaluate.labelled import labelled
from ecellm_lite.evaluate.results import DataFile
from ecellm_lite.evaluate.thresholds import Judged, automatic, least_threshold
from ecellm_lite.jobs.review import ReviewRule
from ecellm_lite.models.automatic import EVERY, Automatic
from ecellm_lite.tasks.registry import TASKS


def rows(count: int, seed: int, *, key: str = "yes") -> list[Judged]:
    """Return answers whose probabilities mean what they say."""
    generator = np.random.default_rng(seed)
    probabilities = generator.uniform(0.5, 1.0, count)
    return [Judged(key, float(p), bool(generator.random() < p)) for p in probabilities]


def test_the_least_threshold_by_hand() -> None:
    right = [Judged("yes", 1 - place / 100, True) for place in range(40)]
    assert least_threshold(right, 0.95) == right[-1].probability
    assert least_threshold(right[:19], 0.95) == right[18].probability
    assert least_threshold(right[:18], 0.95) is None  # too few to speak for it
    assert least_threshold([*right, Judged("yes", 0.5, False)], 0.95) == 0.5  # two of 42
    assert least_threshold([*right, *[Judged("yes", 0.5, False)] * 2], 0.95) == right[-1].probability
    # Equal probabilities cannot be parted.
    assert least_threshold([*right[:20], Judged("yes", right[19].probability, False)], 0.95) == right[18].probability
    assert least_threshold([Judged("yes", 1.0, True, usual=False)] * 40, 0.95) is None


def test_rows_held_out_are_as_precise_as_promised() -> None:
    reached = []
    for seed in range(20):
        chosen = automatic(rows(2000, seed), 0.9, by_answer=True)
        assert chosen.reached is not None
        assert 0.2 < chosen.share < 0.6  # at 0.8 and above nine in ten are right: 40%
        reached.append(chosen.reached)
    assert np.mean(reached) == pytest.approx(0.9, abs=0.01)


def test_each_answer_has_its_own() -> None:
    sure = [Judged("no", 0.6, True)] * 100
    wrong = [Judged("yes", 0.9, False)] * 100
    chosen = automatic([*sure, *wrong], 0.95, by_answer=True)
    assert chosen.thresholds == {"no": 0.6, "yes": None}
    assert (chosen.share, chosen.reached, chosen.rows) == (0.5, 1.0, 200)
    assert automatic([*sure, *wrong], 0.95, by_answer=False).thresholds == {EVERY: None}
    assert automatic([], 0.95, by_answer=True) == Automatic(0.95, {}, 0, 0.0, None)


@pytest.mark.slow
@pytest.mark.data
def test_product_matching_is_automatic_at_95_percent(data: Path, demo: Runtime, tmp_path: Path) -> None:
    """Fitted on one half of the rows; on the other half at least 93% of the automatic answers are right."""
    pytest.importorskip("scipy", reason="fitting a temperature needs the extra 'eval'")
    task = TASKS["product_matching"]
    lines = (data / task.name / "test.jsonl").read_text("utf-8").splitlines()
    given = [labelled(task, number, json.loads(line)) for number, line in enumerate(lines, 1)]
    one, other = given[: len(given) // 2], given[len(given) // 2 :]
    result = calibrate_task(demo, task, one, DataFile("test.jsonl", "0" * 64), target_precision=0.95)
    assert result.calibration is not None
    result.calibration.write(tmp_path / "calibration.json")
    rule = ReviewRule(calibration=result.calibration)
    answers = demo.answers(task, (row.row for row in other), calibration=tmp_path / "calibration.json")
    right = [answer.text == row.gold for row, answer in zip(other, answers, strict=True) if rule.reason(answer) is None]
    share, precision = len(right) / len(other), sum(right) / len(right)
    assert precision >= 0.93, f"{precision:.3f} of the {share:.1%} that are automatic"
    assert share > 0.2
