"""Makes a row's request to the engine, chooses its calibration, and turns the engine's result into an Answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ecellm_lite.answerer import RequestOptions, Row, complete
from ecellm_lite.answers.answer import Answer, AnswerWarning, ModelName, RowError, Usage
from ecellm_lite.answers.decoding import Outcome
from ecellm_lite.answers.none_of_these import OrNone
from ecellm_lite.engine.request import Request
from ecellm_lite.errors import ClosedError, EcellmError, InputError, UsageError
from ecellm_lite.models.answer_sets import AnswerSets
from ecellm_lite.models.calibration_scope import Scope
from ecellm_lite.models.calibrations import Calibration, CalibrationChoice, Calibrations
from ecellm_lite.option_checks import checked_priority, checked_probability, deadline_error
from ecellm_lite.prompts import Prompts
from ecellm_lite.submission import Submission, id_of
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Question, Task

# How many calibration files named by callers are kept in memory.
NAMED = 16

# Below this coverage, an answer comes with a warning.
LEAST_COVERAGE = 0.01


@dataclass(frozen=True, slots=True)
class AnswerPolicy:
    """Turns the engine's results into Answers, and decides which calibration applies to a row.

    In deterministic mode, an answer has no `seconds` and no `cached_tokens`, because both depend on other rows.

    An abstention is an answer without a value. It still has its probabilities. A row with a `min_probability` gets an
    abstention if the answer's probability is below `min_probability`, or if the coverage is below the calibration's
    `least_coverage`. A row without `min_probability` never gets one. The answer "none of these" is not an abstention.
    It may have any coverage.
    """

    model: ModelName
    envelope: str
    deterministic: bool
    calibrations: Calibrations | None = None
    _named: dict[str, Calibrations] = field(default_factory=dict)

    def chosen_calibrations(self, calibration: CalibrationChoice) -> Calibrations | None:
        """Return the calibrations that a caller chose, or None for no calibration.

        Raises ModelError if a chosen file was fitted for another model.
        """
        if calibration is False:
            return None
        if calibration == "auto":
            return self.calibrations
        path = str(calibration)
        named = self._named.get(path)
        if named is None:
            adapter = self.model.adapter.sha256 if self.model.adapter else None
            named = Calibrations(self.model.sha256, self.envelope, named=Path(path), adapter=adapter)
            if len(self._named) >= NAMED:
                self._named.clear()
            self._named[path] = named
        return named

    def calibration(self, calibrations: Calibrations | None, task: Task, question: Question) -> Calibration | None:
        """Return the calibration that applies to a question, or None if no calibration applies."""
        return calibrations.find(_scope(calibrations, task, question), question.space.keys) if calibrations else None

    def refusal(self, calibrations: Calibrations | None, task: Task, instruction: str | None = None) -> str | None:
        """Return the reason why a task's calibration cannot be used with this instruction.

        Returns None if the calibration can be used, or if the task has none.
        """
        if calibrations is None:
            return None
        questions = [task.question(task.example(), instruction=text) for text in (None, instruction)]
        own, other = (
            calibrations.refusal(_scope(calibrations, task, question), question.space.keys) for question in questions
        )
        if other and not own:
            return (
                f"The calibration of {task.name} is not used, because it was fitted with the task's own instruction: "
                "leave out the other instruction to use the calibration."
            )
        return other

    def refusal_of_row(
        self, calibrations: Calibrations | None, task: Task, row: Mapping[str, Any], instruction: str | None = None
    ) -> str | None:
        """Return the reason why a task's calibration cannot be used for a row.

        Returns None if the calibration can be used, or if the task has none. If the task has a calibration, the row is
        checked too: InputError is raised for an invalid row.
        """
        if calibrations is None or not calibrations.has(task.name):
            return None
        question = task.question(row, instruction=instruction)
        reason = calibrations.refusal(_scope(calibrations, task, question), question.space.keys, of_row=True)
        if reason and question.values is not None:  # the row has no instruction of its own
            return self.refusal(calibrations, task, instruction) or reason
        return reason

    def checked_task(
        self, task: str | Task, calibrations: Calibrations | None = None, instruction: str | None = None
    ) -> Task:
        """Return the task with this name, or `task` itself if it is a Task.

        Raises UsageError if no task has this name, or if the caller chose a calibration file that cannot be used with
        this task and instruction.
        """
        task = task if isinstance(task, Task) else get_task(task)
        if calibrations and calibrations.named and (reason := self.refusal(calibrations, task, instruction)):
            raise UsageError(reason)
        return task

    def submission(
        self,
        task: str | Task,
        row: Row | InputError,
        options: RequestOptions,
        *,
        prompts: Prompts,
        request_of: Callable[..., Request],
    ) -> Submission:
        """Return a row's submission: its request to the engine, or the error that prevented the request.

        `request_of`: a function like Prompts.request, which makes the request for a question.
        """
        instruction, space = options.get("instruction"), options.get("space")
        least = checked_probability(options.get("min_probability"))
        urgent = checked_priority(options.get("priority", "normal"))
        calibrations = self.chosen_calibrations(options.get("calibration", "auto"))
        task = self.checked_task(task, calibrations, instruction)
        submission = Submission(None, task, min_probability=least)
        try:
            if isinstance(row, InputError):
                raise row
            submission.id = id_of(row)
            question = task.question(row, instruction=instruction)
            if options.get("shorten"):
                needs = partial(prompts.needs, space=space)
                question = task.shortened(question, needs, prompts.max_length)
                submission.shortened = question.shortened
            submission.warnings = [*task.warnings(row), *question.warnings]
            request = request_of(question, space, seed=options.get("seed", 0))
            request.urgent = urgent
            request.adapter = options.get("adapter")
            request.listener = options.get("listener")
            submission.request, submission.type = request, request.space.type
            if space is None:
                submission.calibration = self.calibration(calibrations, task, question)
        except EcellmError as error:
            submission.failure = error
        return submission

    def answer(self, row: Submission) -> Answer:
        """Return a row's Answer. The engine must have finished the row, or the row must have failed."""
        request, error = row.request, row.error
        outcome = request.outcome if request and not row.failure else None
        plausible: list[str] | None = None
        if request and outcome and row.calibration:
            before = outcome.probabilities
            outcome = row.calibration.applied(request.space, outcome)
            if row.calibration.sets and before and outcome.probabilities:
                plausible = _plausible(row.calibration.sets, before, outcome.probabilities)
        abstained = outcome is not None and _abstains(outcome, row)
        usage = seconds = None
        if request and not row.failure:
            cached = None if self.deterministic else request.cached
            length = len(outcome.tokens) if outcome else 0
            usage = Usage(len(request.prompt), cached, request.decoded, request.forced, length)
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
            plausible=plausible,
            abstained=abstained,
            usage=usage,
            seconds=seconds,
            model=self.model,
            envelope=self.envelope,
            calibration=row.calibration.name if outcome and row.calibration else None,
            unexplored=outcome.unexplored if outcome else None,
            shortened="; ".join(filter(None, (row.shortened, outcome.shortened if outcome else None))) or None,
            warnings=[*row.warnings, *_warnings(outcome, row)] or None,
            error=RowError.of(error) if error else None,
        )

    def settle(self, row: Submission, future: Future[Answer]) -> None:
        """Give a finished row's answer to its future, if the future has no result yet."""
        if row.claim():
            self._settle(row, future)

    def expire(self, row: Submission, future: Future[Answer], deadline_ms: float) -> None:
        """End a row whose deadline has passed: its answer has a DeadlineError, and the engine drops the row.

        Does nothing if the row has its answer already.
        """
        if row.claim():
            row.failure = deadline_error(deadline_ms)
            row.cancel()
            self._settle(row, future)

    def _settle(self, row: Submission, future: Future[Answer]) -> None:
        result: Answer | Exception
        try:
            result = row.error if isinstance(row.error, ClosedError) else self.answer(row)
        except Exception as error:  # noqa: BLE001 - the reader of the answer gets it
            result = error
        complete(future, result)


def _warnings(outcome: Outcome | None, row: Submission) -> Iterator[AnswerWarning]:
    if outcome:
        yield from outcome.warnings
    if outcome and _covers_less(outcome, row, LEAST_COVERAGE):
        yield AnswerWarning(
            "low_coverage",
            f"Only {outcome.coverage:.2%} of the model's probability is on allowed answers: "
            "the row may not fit its task, or the model may be unsuitable.",
        )


def _abstains(outcome: Outcome, row: Submission) -> bool:
    if row.min_probability is None or outcome.probability is None:
        return False
    unfamiliar = row.calibration is not None and _covers_less(outcome, row, row.calibration.least_coverage)
    return unfamiliar or outcome.probability < row.min_probability


def _covers_less(outcome: Outcome, row: Submission, least: float) -> bool:
    """Return whether an answer's coverage is below `least`. For the answer "none of these", return False.

    A low coverage is a sign that no label fits, which the answer "none of these" already says.
    """
    space = row.request.space if row.request else None
    none = isinstance(space, OrNone) and space.is_none(outcome.text)
    return not none and outcome.coverage is not None and outcome.coverage < least


def _plausible(sets: AnswerSets, before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """Return the keys of a row's plausible answers, the likeliest first.

    `before` and `after` are the probabilities before and after calibration. The set of plausible answers is chosen by
    the probabilities before calibration. If it lacks the likeliest answer after calibration, this answer is added.
    A larger set still contains the right answer as often as guaranteed (see evaluate/answer_sets.py).
    """
    order = sorted(after, key=lambda key: (after[key], before[key]), reverse=True)
    plausible = {order[0], *sets.answers(before)}
    return [key for key in order if key in plausible]


def _scope(calibrations: Calibrations, task: Task, question: Question) -> Scope:
    return calibrations.scope(task.name, question.space.type, question.wording, question.answers)
