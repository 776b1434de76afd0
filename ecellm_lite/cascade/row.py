"""A row on its way through the models of a cascade."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

from ecellm_lite.answerer import RequestOptions, Row, complete
from ecellm_lite.answers.answer import Answer, AnswerWarning
from ecellm_lite.cascade.stage import Stage
from ecellm_lite.errors import ContextError, DeadlineError, InputError
from ecellm_lite.option_checks import deadline_error
from ecellm_lite.tasks.task import Task


class CascadeRow:
    """A row that goes through a cascade from model to model, and the future of its answer."""

    def __init__(
        self,
        stages: Sequence[Stage],
        task: Task,
        row: Row | InputError,
        options: RequestOptions,
        escalate_below: float,
        deadline_ms: float | None,
    ) -> None:
        self.future: Future[Answer] = Future()
        self._stages = stages
        self._task = task
        self._row = row
        self._options = options
        self._escalate_below = escalate_below
        self._deadline_ms = deadline_ms
        self._started = time.monotonic()
        self._inner: Future[Answer] | None = None
        self._unsure: Answer | None = None  # the latest model's answer without an error
        self.future.add_done_callback(self._cancel)

    def enter(self, place: int) -> None:
        """Submit the row to the stage at index `place`.

        A stage is one model of the cascade. Raises DeadlineError if the row's deadline has passed. Also raises the
        errors of the model's `submit`.
        """
        stage = self._stages[place]
        options = self._options.copy()
        if self._deadline_ms is not None:
            left = self._deadline_ms - 1000 * (time.monotonic() - self._started)
            if left <= 0:
                raise deadline_error(self._deadline_ms)
            options["deadline_ms"] = left
        stage.begin()
        try:
            self._inner = inner = stage.answerer.submit(self._task, self._row, **options)
        except BaseException:
            self._leave(place)
            raise
        inner.add_done_callback(partial(self._answered, place))

    def _answered(self, place: int, inner: Future[Answer]) -> None:
        next_stage = self._stages[place + 1 : place + 2]
        if inner.cancelled() or self.future.cancelled():
            self._end_cancelled()
        elif failure := inner.exception():
            complete(self.future, failure)
        elif next_stage and is_unsure(inner.result(), self._escalate_below):
            if not inner.result().error:
                self._unsure = inner.result()
            next_stage[0].gather(self)
        else:
            complete(self.future, self._final(place, inner.result()))
        self._leave(place)

    def _final(self, place: int, answer: Answer) -> Answer:
        """Return `answer`, from the model at index `place`, unless the row did not fit this model's context.

        If the row did not fit and an earlier model has answered it, return the earlier answer instead. A warning says
        that the earlier model was not sure.
        """
        if not self._unsure or not answer.error or answer.error.code != ContextError.code:
            return answer
        name = self._stages[place].answerer.model.name
        warning = AnswerWarning(
            "not_escalated", f"The model is not sure of this answer, and the row is too long for {name}."
        )
        return replace(self._unsure, warnings=[*(self._unsure.warnings or ()), warning])

    def _leave(self, place: int) -> None:
        """Tell the stage (model) at index `place` that it has finished this row. Submit waiting rows to the next stage.

        Rows wait for the next stage until there are enough of them, until they have waited for LONGEST_WAIT seconds, or
        until the stage at `place` has no more rows.
        """
        idle = self._stages[place].end()
        for next_stage in self._stages[place + 1 : place + 2]:
            for row in next_stage.take_gathered(all_rows=idle):
                row.escalate(place + 1)

    def escalate(self, place: int) -> None:
        """Submit the row to the stage at index `place`.

        If the row's deadline has passed, the row's future gets a failed answer. If the submission fails for another
        reason, the future gets the error.
        """
        if self.future.cancelled():
            self._end_cancelled()
            return
        try:
            self.enter(place)
        except DeadlineError as error:
            answerer = self._stages[place].answerer
            name, envelope = answerer.model, answerer.envelope.name
            complete(self.future, Answer.failed(self._task.name, error, model=name, envelope=envelope, row=self._row))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other rows that go on with this one must not be lost
            complete(self.future, error)

    def _end_cancelled(self) -> None:
        """Cancel the row's future, and tell those that wait for it (`concurrent.futures.wait`)."""
        self.future.cancel()
        self.future.set_running_or_notify_cancel()

    def _cancel(self, future: Future[Answer]) -> None:
        if future.cancelled() and self._inner:
            self._inner.cancel()


def is_unsure(answer: Answer, escalate_below: float) -> bool:
    """Return whether a cascade passes a row with this answer on to the next model."""
    if answer.error:
        return answer.error.code == ContextError.code  # the next model may have a larger context
    odd = any(warning.code == "low_coverage" for warning in answer.warnings or ())
    return odd or answer.abstained or answer.probability is None or answer.probability < escalate_below
