"""An evaluation, from files of labelled rows to results.

All rows are read and checked before a model is loaded. So an error in a row is reported at once, not after hours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ecellm_lite.answerer import Answerer, RequestOptions, Row, model_of
from ecellm_lite.answers.answer import Answer
from ecellm_lite.cascade import Cascade, Work
from ecellm_lite.evaluate.evaluation import evaluate, judged, no_rows, results
from ecellm_lite.evaluate.labelled_files import SETTING, SPLIT, LabelledRows, gather, labelled_files
from ecellm_lite.evaluate.metrics.kinds import check_measurable
from ecellm_lite.evaluate.outputs import Outputs
from ecellm_lite.evaluate.results import DataFile, EvaluationSettings, Results, TaskResult
from ecellm_lite.models.calibrations import CalibrationChoice
from ecellm_lite.tables.labelled_table import LabelledOptions
from ecellm_lite.tasks.task import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack


def _ignore(_: object) -> None: ...


@runtime_checkable
class Explains(Answerer, Protocol):
    """A model that can show its prompts and say why a calibration is not used. A Runtime is such a model."""

    @property
    def deterministic(self) -> bool:
        """Whether equal rows always get exactly equal answers."""

    def prompt(self, task: str | Task, row: Row, *, instruction: str | None = None) -> str:
        """Return the exact prompt of a row."""

    def uncalibrated(
        self,
        task: str | Task,
        row: Row | None = None,
        *,
        instruction: str | None = None,
        calibration: CalibrationChoice = "auto",
        adapter: str | None = None,
    ) -> str | None:
        """Return why a task's stored calibration is not used, or None if it is used or does not exist."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Labelled rows that are ready to be answered.

    `data` names the files that the rows were read from.
    `split`, `setting`: ECInstruct's names for the rows that were taken, such as `test` and `IND_Diverse_Instruction`.
    `limit`: the most rows taken of each task, or None if there was no limit.
    """

    tasks: Sequence[Task]
    rows: LabelledRows
    data: list[DataFile]
    split: str
    setting: str
    limit: int | None

    @property
    def count(self) -> int:
        """How many rows there are to answer."""
        return sum(map(len, self.rows.rows.values()))

    def run(
        self,
        answerer: Explains | Cascade,
        *,
        progress: Callable[[Answer], None] = _ignore,
        keep: Callable[[Results], None] = _ignore,
        warn: Callable[[str], None] = _ignore,
        **options: Unpack[RequestOptions],
    ) -> Results:
        """Answer the rows of all tasks, measure the answers, and return the results.

        For a cascade, the results say what each of its models did. All these models must be in this process.

        `progress`: called with each answer.
        `keep`: called with the results so far, after each task except the last one.
        `warn`: called with a sentence for each task whose stored calibration is not used.

        Raises UsageError if the options name a calibration of another task.
        """
        started = time.perf_counter()
        measured: dict[str, TaskResult] = {}
        uncalibrated = self._uncalibrated(answerer, options)
        for refusal in uncalibrated.values():
            warn(refusal)
        for task in self.tasks:
            if task.name not in self.rows.rows and task.name not in self.rows.unreadable:
                continue
            if measured:
                keep(self._results(answerer, options, measured, started))
            result = measured[task.name] = self._measure(answerer, task, options, progress)
            if (reason := result.without_calibration) and task.name not in uncalibrated:
                warn(f"{result.abbreviation}: {reason}")
        return self._results(answerer, options, measured, started)

    def _uncalibrated(self, answerer: Explains | Cascade, options: RequestOptions) -> dict[str, str]:
        """Return a reason for each task whose stored calibration is not used, by the task's name."""
        refusals = {
            task.name: _refusal(answerer, task, None, options) for task in self.tasks if task.name in self.rows.rows
        }
        return {name: refusal for name, refusal in refusals.items() if refusal}

    def _measure(
        self, answerer: Explains | Cascade, task: Task, options: RequestOptions, progress: Callable[[Answer], None]
    ) -> TaskResult:
        rows, unreadable = self.rows.rows.get(task.name, []), self.rows.unreadable.get(task.name, [])
        if not rows:
            return no_rows(task, unreadable)
        instruction = options.get("instruction")
        answers, cases = [], []
        before = _work(answerer)
        started = time.perf_counter()
        for row, answer in zip(rows, answerer.answers(task, (row.row for row in rows), **options), strict=True):
            cases.append(judged(row, answer))
            answers.append(replace(answer, probabilities=None))  # with 200 options, they take 15 KB a row
            progress(answer)
        return evaluate(
            task,
            rows,
            answers,
            seconds=time.perf_counter() - started,
            prompt=lambda row: _models(answerer)[0].prompt(task, row.row, instruction=instruction),
            refusal=lambda row: _refusal(answerer, task, row.row, options),
            unreadable=unreadable,
            work=[
                Work(now.model, now.rows - then.rows, now.seconds - then.seconds)
                for now, then in zip(_work(answerer), before, strict=True)
            ],
            cases=cases,
        )

    def _results(
        self, answerer: Explains | Cascade, options: RequestOptions, measured: dict[str, TaskResult], started: float
    ) -> Results:
        settings = EvaluationSettings(
            limit=self.limit,
            split=self.split,
            setting=self.setting,
            deterministic=all(model.deterministic for model in _models(answerer)),
            instruction=options.get("instruction"),
            min_probability=options.get("min_probability"),
            escalate_below=answerer.escalate_below if isinstance(answerer, Cascade) else None,
        )
        return results(
            model_of(answerer, options.get("adapter")),
            answerer.envelope.name,
            data=self.data,
            settings=settings,
            seconds=time.perf_counter() - started,
            unreadable=self.rows.unreadable.get(None, []),
            tasks=dict(measured),
        )


def _models(answerer: Explains | Cascade) -> list[Explains]:
    """Return the models that answer, the cheapest first."""
    if isinstance(answerer, Cascade):
        return [model for model in answerer.answerers if isinstance(model, Explains)]
    return [answerer]


def _work(answerer: Explains | Cascade) -> Sequence[Work]:
    return answerer.work if isinstance(answerer, Cascade) else ()


def _refusal(answerer: Explains | Cascade, task: Task, row: Row | None, options: RequestOptions) -> str | None:
    """Return why a model of the answerer leaves its calibration unused, or None if no model does so."""
    reasons = (
        model.uncalibrated(
            task,
            row,
            instruction=options.get("instruction"),
            calibration=options.get("calibration", "auto"),
            adapter=options.get("adapter"),
        )
        for model in _models(answerer)
    )
    return next(filter(None, reasons), None)


def prepare_evaluation(
    data: Path,
    tasks: Sequence[Task],
    *,
    split: str = SPLIT,
    setting: str = SETTING,
    limit: int | None = None,
    outputs: Outputs | None = None,
    reading: LabelledOptions | None = None,
) -> Evaluation:
    """Read at most `limit` labelled rows of each task, and check that the results can be written.

    `split`, `setting`: rows that name another split or setting of ECInstruct are left out. In a folder, the files
      TASK/SPLIT.jsonl, or tables such as TASK/SPLIT.csv, are read.
    `reading`: how a table of labelled rows is read.

    Raises InputError if there are no rows of these tasks, or if an output cannot be written. Raises UsageError if a
    task has no metric, if the package for its metric is not installed, or if an output would overwrite the rows.
    """
    for task in tasks:
        check_measurable(task)
    files = labelled_files(data, tasks, split, reading)
    if outputs:
        outputs.check([file.path for file in files])
    rows = gather(files, tasks, split=split, setting=setting, limit=limit)
    # The files are hashed now: after hours, when the answers are complete, one may be gone.
    return Evaluation(tasks, rows, [file.hashed for file in files], split, setting, limit)
