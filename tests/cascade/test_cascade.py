"""Tests a cascade: which model answers a row, and how rows, deadlines and cancellations pass to the next model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import Answer, Cascade, InputError, Runtime, UsageError, schema
from ecellm_lite.answerer import Answerer
from ecellm_lite.answers.answer import ModelName
from ecellm_lite.cascade.stage import GATHERED
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.errors import ClosedError
from ecellm_lite.models.calibrations import Calibrations
from tests.support.answer_checks import EXAMPLES
from tests.support.calibrations import calibration_of
from tests.support.gated import PATIENCE, Gated

SMALL, LARGE = ModelName("small", "a" * 64), ModelName("large", "b" * 64)
TASK = "sentiment_analysis"
ROWS = [{"id": n, "review": f"It is number {n}."} for n in range(60)]


@contextmanager
def cascade(least: float, small: FakeBackend | None = None, large: FakeBackend | None = None) -> Iterator[Cascade]:
    models = [Runtime.over(small or FakeBackend(), name=SMALL), Runtime.over(large or FakeBackend(), name=LARGE)]
    with Cascade(models, escalate_below=least) as answerer:
        yield answerer


def alone() -> list[Answer]:
    with Runtime.over(FakeBackend(), name=SMALL) as runtime:
        return list(runtime.answers(TASK, ROWS))


def test_only_unsure_rows_go_to_the_larger_model() -> None:
    small = alone()
    least = sorted(answer.probability or 0.0 for answer in small)[20]
    with cascade(least) as models:
        answerer: Answerer = models
        answers = list(answerer.answers(TASK, ROWS))
    assert [answer.id for answer in answers] == [row["id"] for row in ROWS]
    larger = {answer.id for answer in answers if answer.model.name == "large"}
    assert larger == {answer.id for answer in small if (answer.probability or 0.0) < least or answer.warnings}
    assert 20 <= len(larger) < len(ROWS)
    assert {answer.model.name for answer in answers} == {"small", "large"}


def test_at_probability_one_the_larger_model_answers_all_rows() -> None:
    with cascade(1.0) as models:
        assert {answer.model.name for answer in models.answers(TASK, ROWS[:5])} == {"large"}
        assert models.answer(TASK, ROWS[0]).model.name == "large"


def test_at_probability_zero_only_rows_with_warnings_are_escalated() -> None:
    with cascade(0.0) as models:
        answers = list(models.answers(TASK, ROWS))
    assert [answer.model.name == "large" for answer in answers] == [bool(answer.warnings) for answer in alone()]


def test_answers_without_a_probability_come_from_the_last_model() -> None:
    small = FakeBackend()
    with cascade(0.0, small) as models:
        assert models.answer("answer_generation", EXAMPLES["answer_generation"]).model.name == "large"
        space = schema({"enum": ["yes", "no"]})
        assert models.answer(TASK, ROWS[0], space=space).model.name == "large"
    assert not small.decoded


def test_only_the_last_model_abstains() -> None:
    with cascade(0.0) as models:
        answers = list(models.answers(TASK, ROWS, min_probability=0.9))
    assert all(answer.abstained == (answer.probability < 0.9) for answer in answers if answer.probability is not None)
    assert {answer.model.name for answer in answers if answer.abstained} == {"large"}


def test_a_model_that_abstains_for_an_unusual_coverage_passes_the_row_on(tmp_path: Path) -> None:
    fitted = calibration_of(TASK, least_coverage=1.0)  # no answer of the fake engine has this coverage
    replace(fitted, scope=replace(fitted.scope, model=SMALL.sha256)).write(tmp_path / f"{TASK}.json")
    calibrations = Calibrations(SMALL.sha256, "alpaca", tmp_path)
    small = Runtime.over(FakeBackend(), name=SMALL, calibrations=calibrations)
    row = next(row for row in ROWS if not small.answer(TASK, row).warnings)
    assert small.answer(TASK, row, min_probability=0.0).abstained
    with Cascade([small, Runtime.over(FakeBackend(), name=LARGE)], escalate_below=0.0) as models:
        assert models.answer(TASK, row).model.name == "small"
        answer = models.answer(TASK, row, min_probability=0.0)
        assert (answer.model.name, answer.abstained) == ("large", False)


def test_a_row_too_long_is_escalated_but_an_invalid_row_is_not() -> None:
    row = {"id": 1, "review": "word " * 400}
    with cascade(0.0, FakeBackend(cells=512)) as models:
        assert models.answer(TASK, row).model.name == "large"
        bad = models.submit(TASK, {"id": 2}).result(PATIENCE)
        assert bad.error
        assert (bad.id, bad.error.code, bad.model.name) == (2, "input", "small")
        with pytest.raises(InputError):
            models.answer(TASK, {"id": 2})


def test_an_answer_is_kept_if_the_row_is_too_long_for_the_next_model() -> None:
    row = {"id": 1, "review": "word " * 400}
    with cascade(1.0, large=FakeBackend(cells=512)) as models:
        answer = models.answer(TASK, row)
        abstention = models.answer(TASK, row, min_probability=1.0)
    with Runtime.over(FakeBackend(), name=SMALL) as small:
        own = small.answer(TASK, row)
    assert (answer.model, answer.value, answer.probability) == (SMALL, own.value, own.probability)
    assert [warning.code for warning in answer.warnings or ()][-1] == "not_escalated"
    assert (abstention.model, abstention.value, abstention.abstained) == (SMALL, None, True)


def test_of_three_models_the_latest_answer_is_kept() -> None:
    row = {"id": 1, "review": "word " * 400}
    backends = [FakeBackend(), FakeBackend(), FakeBackend(cells=512), FakeBackend(cells=512)]
    runtimes = [Runtime.over(backend, name=ModelName(str(n), str(n) * 64)) for n, backend in enumerate(backends)]
    with Cascade(runtimes, escalate_below=1.0) as models:
        assert models.answer(TASK, row).model.name == "1"
    with Cascade([Runtime.over(backend) for backend in backends[2:]], escalate_below=1.0) as models:
        failed = models.submit(TASK, row).result(PATIENCE)
    assert failed.error
    assert failed.error.code == "context_exceeded"


def test_escalated_rows_are_answered_in_batches() -> None:
    with Runtime.over(FakeBackend(), name=SMALL) as small, Runtime.over(FakeBackend(), name=LARGE) as large:
        answers = list(Cascade([small, large], escalate_below=1.0).answers(TASK, ROWS))
        calls = large.progress()[1]
    assert len(answers) == len(ROWS) > GATHERED
    assert calls < len(ROWS) / 2


def test_an_unknown_option_raises_before_a_row_is_sent() -> None:
    options: Any = {"min_probabilty": 0.99}
    small = FakeBackend()
    with cascade(0.5, small) as models, pytest.raises(TypeError, match="'min_probabilty'"):
        models.answer(TASK, ROWS[0], **options)
    assert not small.decoded


class Prepared:
    """The first model of a cascade. A test decides when it answers.

    If a test submits the row with the id 1, the first submitted row is answered, and then `submit` raises UsageError.
    """

    model = SMALL

    def __init__(self) -> None:
        self.futures: list[Future[Answer]] = []

    def submit(self, task: Any, row: Any, **options: Any) -> Future[Answer]:
        if row["id"] == 1:
            self.finish(0)
            raise UsageError("The option is wrong")
        self.futures.append(Future())
        return self.futures[-1]

    def finish(self, place: int) -> None:
        self.futures[place].set_result(alone_answer())

    def close(self) -> None:
        """Do nothing."""


def alone_answer() -> Answer:
    with Runtime.over(FakeBackend(), name=SMALL) as runtime:
        return runtime.answer(TASK, ROWS[0])


def test_a_row_goes_on_though_the_next_one_is_refused() -> None:
    with Runtime.over(FakeBackend(), name=LARGE) as large:
        small: Any = Prepared()
        models = Cascade([small, large], escalate_below=1.0)
        row = models.submit(TASK, ROWS[0])
        with pytest.raises(UsageError):
            models.submit(TASK, ROWS[1])
        assert row.result(PATIENCE).model.name == "large"


@pytest.mark.parametrize("longest_wait", [0.0, 1000.0])
def test_a_row_does_not_wait_for_ever_for_others(monkeypatch: pytest.MonkeyPatch, longest_wait: float) -> None:
    monkeypatch.setattr("ecellm_lite.cascade.stage.LONGEST_WAIT", longest_wait)
    with Runtime.over(FakeBackend(), name=LARGE) as large:
        small: Any = Prepared()
        models = Cascade([small, large], escalate_below=1.0)
        row, running = models.submit(TASK, ROWS[0]), models.submit(TASK, ROWS[2])
        small.finish(0)
        assert models.work[1].rows == (0 if longest_wait else 1)
        small.finish(1)
        assert {each.result(PATIENCE).model.name for each in (row, running)} == {"large"}


def test_a_deadline_covers_all_models() -> None:
    gated = Gated()
    with cascade(1.0, large=gated) as models:
        answer = models.submit(TASK, ROWS[0], deadline_ms=200).result(PATIENCE)
        gated.gate.set()
    assert answer.error
    assert (answer.id, answer.error.code) == (0, "deadline")


def test_a_cancelled_row_is_not_escalated() -> None:
    gated, large = Gated(), FakeBackend()
    with cascade(1.0, gated, large) as models:
        future = models.submit(TASK, ROWS[0])
        assert future.cancel()
        gated.gate.set()
        other = models.submit(TASK, ROWS[1]).result(PATIENCE)
    assert other.model.name == "large"
    assert future.cancelled()


@pytest.mark.parametrize("answered", [0, 1])
def test_those_who_wait_for_a_cancelled_row_are_told(answered: int) -> None:
    with Runtime.over(FakeBackend(), name=LARGE) as large:
        small: Any = Prepared()
        models = Cascade([small, large], escalate_below=1.0)
        rows = [models.submit(TASK, ROWS[0]), models.submit(TASK, ROWS[2])]
        for place in range(answered):  # an answered row waits for others before it goes to the next model
            small.finish(place)
        assert rows[0].cancel()
        small.finish(1)
        assert wait(rows, PATIENCE / 10).not_done == set()
        assert rows[0].cancelled()


def test_many_callers_each_get_their_own_answer() -> None:
    with cascade(0.5) as models:
        results: dict[int, int | str | None] = {}

        def call(n: int) -> None:
            results[n] = models.answer(TASK, ROWS[n]).id

        threads = [threading.Thread(target=call, args=(n,)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert results == {n: n for n in range(20)}


def test_closing_fails_waiting_rows() -> None:
    gated = Gated()
    with cascade(1.0, gated) as models:
        futures = [models.submit(TASK, row) for row in ROWS]
        threading.Timer(0.05, gated.gate.set).start()
        models.close()
        failures = [future.exception(PATIENCE) for future in futures]
    assert any(isinstance(failure, ClosedError) for failure in failures)


def test_invalid_settings_are_refused() -> None:
    with Runtime.over(FakeBackend()) as one, Runtime.over(FakeBackend()) as other:
        with pytest.raises(UsageError):
            Cascade([one], escalate_below=0.5)
        wrong: Any
        for wrong in (1.5, None, True, float("nan"), "0.5"):
            with pytest.raises(UsageError) as error:
                Cascade([one, other], escalate_below=wrong)
            assert error.value.settings == ("escalate_below",)
        models = Cascade([one, other], escalate_below=0.5)
        for options in ({"adapter": "shop"}, {"calibration": "file.json"}, {"min_probability": 2}, {"deadline_ms": -1}):
            with pytest.raises(UsageError):
                models.submit(TASK, ROWS[0], **options)


def test_each_model_counts_its_rows_and_its_time() -> None:
    with cascade(1.0) as models:
        assert [(work.rows, work.seconds) for work in models.work] == [(0, 0.0), (0, 0.0)]
        list(models.answers(TASK, ROWS))
        assert [(work.model, work.rows) for work in models.work] == [(SMALL, len(ROWS)), (LARGE, len(ROWS))]
        assert all(work.seconds > 0 for work in models.work)


def test_the_identity_of_a_cascade_depends_on_models_and_probability() -> None:
    with cascade(0.5) as one, cascade(0.6) as other, cascade(0.5) as same:
        assert one.model == same.model != other.model
        assert one.model.name == "small,large"


def test_a_model_is_closed_though_another_one_fails_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (Runtime.over(FakeBackend(), name=name) for name in (SMALL, LARGE))
    models = Cascade([small, large], escalate_below=1.0)
    for failing, other in ((small, large), (large, small)):
        with monkeypatch.context() as patch:
            patch.setattr(failing, "close", lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                models.close()
        with pytest.raises(ClosedError):
            other.answer(TASK, ROWS[0])
