"""Tests that `calibrate` says what it stored, and whether an existing calibration is used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="thresholds need the extra 'eval'")

from ecellm_lite.answers.answer import corrects
from ecellm_lite.answers.none_of_these import NoneRule
from ecellm_lite.cli.calibration_text import calibration_lines, existing_lines, removed_lines
from ecellm_lite.evaluate.calibrating import CalibrationResult
from ecellm_lite.evaluate.fitting import Fit
from ecellm_lite.evaluate.none_fitting import Hits, NoneFit
from ecellm_lite.evaluate.results import DataFile
from ecellm_lite.models.automatic import Automatic
from tests.support.calibrations import calibration_of, scope_of

NAME = "sentiment_analysis"
STORED = calibration_of(NAME)
FIT = Fit(1.61, 0.0, 50, -0.1, 0.1, 0.0, STORED.before, STORED.after, 0.9)
THRESHOLDS = Automatic(0.8, {"no": 0.664, "yes": None}, 60, 0.0, None)
RESULT = CalibrationResult(scope_of(NAME), DataFile("rows.csv", "a" * 64), FIT, "chance", 0, 0, THRESHOLDS)


def test_thresholds_alone_are_no_correction() -> None:
    calibration = RESULT.calibration
    assert calibration is not None
    assert (calibration.temperature, calibration.corrects) == (1.0, False)
    assert "T=" not in calibration.name
    assert not corrects(calibration.name)
    assert corrects(STORED.name)
    assert not corrects(None)
    assert replace(STORED, temperature=1.0, none=NoneRule(bias=1.0)).corrects
    *_, last = calibration_lines(RESULT, "x.json")
    assert "x.json" in last
    assert "1.61" not in last
    kept = replace(RESULT, refusal=None)
    *_, last = calibration_lines(kept, "x.json")
    assert "temperature 1.61" in last


def test_each_answers_threshold_is_named() -> None:
    lines = calibration_lines(RESULT, "x.json")
    [no] = [line for line in lines if "'no'" in line]
    [yes] = [line for line in lines if "'yes'" in line]
    assert "0.664" in no
    assert "17" in yes  # the fewest right answers that prove 80% for one of two answers


def test_rows_that_fit_no_label_are_accounted_for() -> None:
    none = NoneFit(NoneRule(), 60, 10, Hits(0.5, 0.5, 0.5), Hits(0.5, 0.5, 0.5), "chance")
    first, *_ = calibration_lines(replace(RESULT, none=none), None)
    assert "50 rows" in first
    assert " 10 " in first


def test_an_existing_calibration_is_in_use_only_if_it_fits(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    assert list(existing_lines(RESULT, path)) == []
    STORED.write(path)
    [used] = existing_lines(RESULT, path)
    [unused] = existing_lines(replace(RESULT, scope=replace(RESULT.scope, instruction="b" * 64)), path)
    assert f"temperature {STORED.temperature:.3g}" in used
    assert "temperature" not in unused
    path.write_text("{")
    [damaged] = existing_lines(RESULT, path)
    assert str(path) in damaged


def test_rules_that_a_new_calibration_lacks_are_named() -> None:
    before = replace(STORED, automatic=THRESHOLDS)
    [line] = removed_lines(before, STORED)
    assert "--target-precision" in line
    assert list(removed_lines(before, before)) == []
    assert list(removed_lines(None, STORED)) == []


def test_thresholds_that_could_not_be_tested_have_no_result() -> None:
    assert not [line for line in calibration_lines(RESULT, None) if "0.0% automatic" in line]
