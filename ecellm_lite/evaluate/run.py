"""An evaluation, from files of labelled rows to results.

The rows are read and checked before a model is loaded, so a mistake in them is reported at once and not after hours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ecellm_lite.answerer import RequestOptions, model_of
from ecellm_lite.answers.answer import Answer
from ecellm_lite.evaluate.evaluation import evaluate, no_rows, results
from ecellm_lite.evaluate.labelled_files import SETTING, SPLIT, LabelledRows, gather, labelled_files
from ecellm_lite.evaluate.metrics.kinds import check_measurable
from ecellm_lite.evaluate.outputs import Outputs
from ecellm_lite.evaluate.results import DataFile, EvaluationSettings, Results, TaskResult
from ecellm_lite.runtime import Runtime
from ecellm_lite.tasks.task import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack


def _ignore(_: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Labelled rows ready to be answered, with their files and the selection."""

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
        runtime: Runtime,
        *,
        progress: Callable[[Answer], None] = _ignore,
        keep: Callable[[Results], None] = _ignore,
        warn: Callable[[str], None] = _ignore,
        **options: Unpack[RequestOptions],
    ) -> Results:
        """Answer the rows of all tasks, measure the answers, and return the results.

        `progress` is called with each answer, and `keep` with the results so far before each next task. `warn` is
        called with a sentence for each task whose stored calibration is not used. Raises UsageError if the options name
        a calibration that is for another task.
        """
        started = time.perf_counter()
        measured: dict[str, TaskResult] = {}
        uncalibrated = self._uncalibrated(runtime, options)
        for refusal in uncalibrated.values():
            warn(refusal)
        for task in self.tasks:
            if task.name not in self.rows.rows and task.name not in self.rows.unreadable:
                continue
            if measured:
                keep(self._results(runtime, options, measured, started))
            result = measured[task.name] = self._measure(runtime, task, options, progress)
            if (reason := result.without_calibration) and task.name not in uncalibrated:
                warn(f"{result.abbreviation}: {reason}")
        return self._results(runtime, options, measured, started)

    def _uncalibrated(self, runtime: Runtime, options: RequestOptions) -> dict[str, str]:
        """Return the reasons why stored calibrations are not used, by the names of their tasks."""
        instruction, calibration = options.get("instruction"), options.get("calibration", "auto")
        adapter = options.get("adapter")
        refusals = {
            task.name: runtime.uncalibrated(task, instruction=instruction, calibration=calibration, adapter=adapter)
            for task in self.tasks
            if task.name in self.rows.rows
        }
        return {name: refusal for name, refusal in refusals.items() if refusal}

    def _measure(
        self, runtime: Runtime, task: Task, options: RequestOptions, progress: Callable[[Answer], None]
    ) -> TaskResult:
        rows, unreadable = self.rows.rows.get(task.name, []), self.rows.unreadable.get(task.name, [])
        if not rows:
            return no_rows(task, unreadable)
        instruction, calibration = options.get("instruction"), options.get("calibration", "auto")
        answers = []
        started = time.perf_counter()
        for answer in runtime.answers(task, (row.row for row in rows), **options):
            answers.append(answer)
            progress(answer)
        return evaluate(
            task,
            rows,
            answers,
            seconds=time.perf_counter() - started,
            prompt=lambda row: runtime.prompt(task, row.row, instruction=instruction),
            refusal=lambda row: runtime.uncalibrated(
                task, row.row, instruction=instruction, calibration=calibration, adapter=options.get("adapter")
            ),
            unreadable=unreadable,
        )

    def _results(
        self, runtime: Runtime, options: RequestOptions, measured: dict[str, TaskResult], started: float
    ) -> Results:
        settings = EvaluationSettings(
            limit=self.limit,
            split=self.split,
            setting=self.setting,
            deterministic=runtime.deterministic,
            instruction=options.get("instruction"),
            min_probability=options.get("min_probability"),
        )
        return results(
            model_of(runtime, options.get("adapter")),
            runtime.envelope.name,
            data=self.data,
            settings=settings,
            seconds=time.perf_counter() - started,
            unreadable=self.rows.unreadable.get(None, []),
            tasks=dict(measured),
        )


def prepare_evaluation(
    data: Path,
    tasks: Sequence[Task],
    *,
    split: str = SPLIT,
    setting: str = SETTING,
    limit: int | None = None,
    outputs: Outputs | None = None,
) -> Evaluation:
    """Read the labelled rows of these tasks, at most `limit` of each, and check that the results can be written.

    Raises InputError if a file has no rows of these tasks or an output cannot be written. Raises UsageError if a task
    cannot be measured here or an output would overwrite the rows.
    """
    for task in tasks:
        check_measurable(task)
    files = labelled_files(data, tasks, split)
    if outputs:
        outputs.check([file.path for file in files])
    rows = gather(files, tasks, split=split, setting=setting, limit=limit)
    # The files are hashed now: after hours, when the answers are complete, one may be gone.
    return Evaluation(tasks, rows, [file.hashed for file in files], split, setting, limit)
