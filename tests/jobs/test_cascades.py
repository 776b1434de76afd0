"""Tests that a job of a cascade can be resumed only if nothing that its answers depend on has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ecellm_lite import TASKS, Cascade, Runtime, UsageError
from ecellm_lite.answers.answer import ModelName
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs.job import open_job
from ecellm_lite.jobs.tally import Tally
from ecellm_lite.models.calibrations import Calibrations
from tests.jobs.test_job import reviews, write_table
from tests.support.calibrations import calibration_of

TASK = TASKS["sentiment_analysis"]
MODELS = (ModelName("small", "a" * 64), ModelName("large", "b" * 64))


def model(name: ModelName, folder: Path, temperature: float | None, envelope: str) -> Runtime:
    """Return a model. `temperature`: the temperature of its calibration, or None for no calibration."""
    path = folder / name.name / f"{TASK.name}.json"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if temperature is not None:
        fitted = calibration_of(TASK.name, temperature)
        replace(fitted, scope=replace(fitted.scope, model=name.sha256, envelope=envelope)).write(path)
    calibrations = Calibrations(name.sha256, envelope, path.parent)
    return Runtime.over(FakeBackend(), name=name, envelope=envelope, deterministic=True, calibrations=calibrations)


def run(
    folder: Path,
    temperatures: tuple[float | None, float | None] = (2.0, 3.0),
    envelopes: tuple[str, str] = ("alpaca", "alpaca"),
    more: Sequence[str] = (),
) -> Tally:
    """Answer a table with a cascade of two models. The table has ten reviews, and the rows `more`."""
    rows = write_table(folder / "rows.jsonl", [*reviews(10), *more])
    models = [
        model(name, folder, temperature, envelope)
        for name, temperature, envelope in zip(MODELS, temperatures, envelopes, strict=True)
    ]
    with Cascade(models, escalate_below=0.5) as answerer, open_job(rows, folder / "out.jsonl", TASK) as job:
        return job.run(answerer)


@pytest.mark.parametrize(
    ("temperatures", "envelopes"),
    [
        ((2.0, 4.0), ("alpaca", "alpaca")),
        ((4.0, 3.0), ("alpaca", "alpaca")),
        ((2.0, None), ("alpaca", "alpaca")),
        ((2.0, 3.0), ("alpaca", "mistral")),
        ((2.0, 3.0), ("mistral", "alpaca")),
    ],
)
def test_a_cascades_job_goes_on_only_with_the_same_calibrations_and_envelopes(
    tmp_path: Path, temperatures: tuple[float, float | None], envelopes: tuple[str, str]
) -> None:
    run(tmp_path)
    with pytest.raises(UsageError) as error:
        run(tmp_path, temperatures, envelopes)
    assert ("envelope" in error.value.settings) == (envelopes != ("alpaca", "alpaca"))
    assert error.value.settings[-2:] == ("calibration", "restart")
    assert run(tmp_path).reused == 10


def test_a_row_that_failed_counts_for_no_model(tmp_path: Path) -> None:
    tally = run(tmp_path, more=["", "word " * 2000])
    assert (tally.rows, tally.failed) == (12, 2)
    assert sum(tally.models.values()) == 10
