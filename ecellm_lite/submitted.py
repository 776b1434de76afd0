"""A row on its way to its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ecellm_lite.answers.answer import Answer, ModelName, RowError, Usage
from ecellm_lite.answers.calibration import calibrated
from ecellm_lite.answers.decoding import Outcome
from ecellm_lite.engine.request import Request
from ecellm_lite.errors import EcellmError, InputError, UsageError
from ecellm_lite.models.calibrations import Calibration, Calibrations, Scope
from ecellm_lite.tasks.fields import encodable, shown
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Question, Task


@dataclass(slots=True, eq=False)
class Submitted:
    """A row with the request that runs for it, or the error that it ended with before it could."""

    id: str | int | None
    task: Task
    type: str | None = None
    request: Request | None = None
    error: EcellmError | None = None
    shortened: str | None = None
    calibration: Calibration | None = None

    def cancel(self) -> None:
        """Say that nobody waits for it any more."""
        if self.request:
            self.request.cancelled = True


@dataclass(frozen=True, slots=True)
class Answering:
    """Who answers: a model in an envelope, deterministic or not, with its calibrations, and how sure it has to be.

    A deterministic answer says nothing of what ran before it. One with a probability below `min_probability`, or with a
    coverage that the rows of its calibration did not have, is an abstention: no value, but the probabilities say why.
    """

    model: ModelName
    envelope: str
    deterministic: bool
    calibrations: Calibrations | None = None
    min_probability: float | None = None

    def __post_init__(self) -> None:
        if self.min_probability is not None and not 0 <= self.min_probability <= 1:
            raise UsageError(f"min_probability is {self.min_probability!r}: give a probability, from 0 to 1.")

    def calibration(self, task: Task, question: Question) -> Calibration | None:
        """Return the calibration that holds for a question, or None."""
        return self.calibrations.find(self._scope(task, question)) if self.calibrations else None

    def refusal(self, task: Task, instruction: str | None = None) -> str | None:
        """Return why the calibration of a task is not used for it, asked with an instruction, or None."""
        if self.calibrations is None:
            return None
        own, other = (
            self.calibrations.refusal(self._scope(task, task.question(task.example(), instruction=given)))
            for given in (None, instruction)
        )
        if other and not own:
            return (
                f"The calibration of {task.name} is not used: it was fitted with the task's own instruction, and "
                "another is given; leave that out to use it."
            )
        return other

    def refusal_of_row(self, task: Task, row: Mapping[str, Any], instruction: str | None = None) -> str | None:
        """Return why the calibration of a task is not used for a row of it, or None.

        Raises InputError for a wrong row where there is a calibration.
        """
        if self.calibrations is None or not self.calibrations.has(task.name):
            return None
        question = task.question(row, instruction=instruction)
        reason = self.calibrations.refusal(self._scope(task, question), of_row=True)
        if reason and question.values is not None:  # it brings no instruction, and is asked as its whole task is
            return self.refusal(task, instruction) or reason
        return reason

    def asked(self, task: str | Task, instruction: str | None = None) -> Task:
        """Return the task; raises UsageError if there is none, or if a calibration was named that is not for it."""
        known = known_task(task)
        if self.calibrations and self.calibrations.named and (reason := self.refusal(known, instruction)):
            raise UsageError(reason)
        return known

    def answer(self, row: Submitted) -> Answer:
        """Return the answer of a row that is done."""
        request = row.request
        error = row.error or (request and request.error)
        outcome = request.outcome if request else None
        if outcome and row.calibration:
            outcome = calibrated(outcome, row.type, row.calibration.temperature, row.calibration.bias)
        abstained = outcome is not None and self._abstains(outcome, row.calibration)
        usage = seconds = None
        if request and not row.error:
            cached = None if self.deterministic else request.cached
            usage = Usage(len(request.prompt), cached, request.decoded, request.forced)
            seconds = None if self.deterministic else round(request.seconds, 6)
        return Answer(
            id=row.id,
            task=row.task.name,
            type=row.type,
            value=outcome.value if outcome and not abstained else None,
            text=outcome.text if outcome and not abstained else None,
            probability=outcome.probability if outcome else None,
            probabilities=outcome.probabilities if outcome else None,
            confidence=outcome.confidence if outcome else None,
            coverage=outcome.coverage if outcome else None,
            abstained=abstained,
            usage=usage,
            seconds=seconds,
            model=self.model,
            envelope=self.envelope,
            calibration=row.calibration.name if outcome and row.calibration else None,
            shortened="; ".join(filter(None, (row.shortened, outcome.shortened if outcome else None))) or None,
            error=RowError.of(error) if error else None,
        )

    def _abstains(self, outcome: Outcome, calibration: Calibration | None) -> bool:
        if self.min_probability is None or outcome.probability is None:
            return False
        strange = calibration and outcome.coverage is not None and outcome.coverage < calibration.least_coverage
        return bool(strange) or outcome.probability < self.min_probability

    def _scope(self, task: Task, question: Question) -> Scope:
        assert self.calibrations is not None
        return self.calibrations.scope(task.name, question.space.type, question.instruction, question.options)


def known_task(task: str | Task) -> Task:
    """Return a task by its name, or as it is."""
    return task if isinstance(task, Task) else get_task(task)


def id_of(row: Mapping[str, Any]) -> str | int | None:
    """Return a row's id, None where it has none; raises InputError for what is no id."""
    given = row.get("id") if isinstance(row, Mapping) else None
    if isinstance(given, str):
        return encodable(given)
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and abs(given) < 1 << 63):
        return given
    raise InputError(f"The id of a row was given {shown(given)}: it is a text or a whole number, or left out.")
