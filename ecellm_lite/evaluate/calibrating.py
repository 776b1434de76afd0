"""Labelled rows become a calibration, or a reason why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ecellm_lite import ggml
from ecellm_lite.answers.answer import Answer
from ecellm_lite.errors import InputError
from ecellm_lite.evaluate.cases import case_of
from ecellm_lite.evaluate.fitting import Fit, fit
from ecellm_lite.evaluate.labelled import Labelled
from ecellm_lite.evaluate.results import DataFile
from ecellm_lite.models.calibrations import FORMAT, Calibration, Scope, text_hash
from ecellm_lite.runtime import Runtime
from ecellm_lite.tasks.task import Question, Task
from ecellm_lite.version import __version__

# Answers without a probability.
FREE = frozenset(("text", "schema"))


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a task's rows: a fit (None where there were too few), and why it is refused, None where it is not.

    `failed` rows had no answer, and `others` ask with another instruction than the task's; neither are in the fit.
    """

    scope: Scope
    data: DataFile
    fit: Fit | None
    refusal: str | None
    failed: int
    others: int

    @property
    def calibration(self) -> Calibration | None:
        """The calibration to keep, None where the fit is refused."""
        fit = self.fit
        if fit is None or self.refusal:
            return None
        return Calibration(
            scope=self.scope,
            temperature=fit.temperature,
            bias=fit.bias,
            least_coverage=fit.least_coverage,
            rows=fit.rows,
            held_out=fit.rows,
            before=fit.before,
            after=fit.after,
            data=self.data.name,
            data_sha256=self.data.sha256,
            versions={"ecellm_lite": __version__, "llama_cpp_python": ggml.version()},
            format=FORMAT,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return what was found as plain data."""
        return asdict(self)


def calibrate_task(
    runtime: Runtime,
    task: Task,
    rows: Sequence[Labelled],
    data: DataFile,
    *,
    seed: int = 0,
    progress: Callable[[Answer], None] | None = None,
) -> Found:
    """Answer labelled rows with a runtime that calibrates nothing, and fit a temperature to the answers.

    Rows with another instruction than the task's own are left out, for a calibration holds for one. Raises InputError
    for a task that answers in free text, UsageError where scipy is not installed.
    """
    asked = [(row, question) for row in rows if (question := task.question(row.row)).instruction == task.instruction]
    if not asked:
        raise InputError(f"No row asks with the instruction of {task.name}: a calibration holds for that one.")
    kind = asked[0][1].space.type
    if kind in FREE:
        raise InputError(f"{task.name} has answers of the type {kind}, without a probability: nothing to calibrate.")
    cases = []
    answers = runtime.answers(task, (row.row for row, _ in asked), calibration=False)
    for (row, question), answer in zip(asked, answers, strict=True):
        if progress:
            progress(answer)
        if answer.error is None:
            cases.append(case_of(answer, question.space.parse(row.gold), row.labels))
    found: Fit | None = None
    try:
        found = fit(cases, biased=kind == "extraction", seed=seed)
        refusal = found.refusal
    except InputError as error:
        refusal = str(error).rstrip(".")
    scope = _scope(runtime, task, kind, [question for _, question in asked])
    return Found(scope, data, found, refusal, len(asked) - len(cases), len(rows) - len(asked))


def _scope(runtime: Runtime, task: Task, kind: str, questions: Sequence[Question]) -> Scope:
    options = {question.options for question in questions}
    fixed = options.pop() if len(options) == 1 else None
    return Scope(
        task=task.name,
        type=kind,
        model=runtime.model.sha256,
        envelope=runtime.envelope.name,
        instruction=text_hash(task.instruction),
        options=None if fixed is None else text_hash(fixed),
    )
