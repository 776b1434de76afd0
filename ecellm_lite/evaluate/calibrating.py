"""Fits a calibration to labelled rows. If it should not be kept, the result says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ecellm_lite import ggml
from ecellm_lite.answerer import Answerer
from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.calibration import Correction
from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.decoding import Outcome
from ecellm_lite.answers.none_of_these import OrNone
from ecellm_lite.answers.option_corrections import IsotonicRegression, VectorScaling
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.score import Score
from ecellm_lite.answers.several_labels import SeveralLabels
from ecellm_lite.answers.space import Space
from ecellm_lite.errors import InputError
from ecellm_lite.evaluate.answer_sets import answer_sets, row_of
from ecellm_lite.evaluate.cases import Case, case_of, outcome_of
from ecellm_lite.evaluate.fitting import STRANGE, Fit, check_installed, fit
from ecellm_lite.evaluate.label_fitting import own_corrections
from ecellm_lite.evaluate.labelled import Labelled
from ecellm_lite.evaluate.labelled_files import SETTING, SPLIT, LabelledRows, gather, labelled_files
from ecellm_lite.evaluate.method_fitting import OptionRows, choose_method
from ecellm_lite.evaluate.none_fitting import NoneFit, fit_none, none_row
from ecellm_lite.evaluate.results import DataFile
from ecellm_lite.evaluate.thresholds import automatic, judged
from ecellm_lite.models.answer_sets import AnswerSets
from ecellm_lite.models.automatic import Automatic
from ecellm_lite.models.calibration_scope import Scope, text_hash
from ecellm_lite.models.calibrations import FORMAT, Calibration
from ecellm_lite.tables.labelled_table import LabelledOptions
from ecellm_lite.tasks.task import Question, Task
from ecellm_lite.version import __version__

# Several methods are compared for these spaces. Their probabilities are those of their options, and of nothing else.
COMPARED = (Choice, Predicate, Score)


class LabelledTask(NamedTuple):
    """A task, its labelled rows, and their file."""

    task: Task
    rows: Sequence[Labelled]
    data: DataFile


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """The result of calibrating one task.

    `fit`: the fitted temperature or other correction, or None if there were too few rows.
    `refusal`: why the fit should not be kept, or None.
    `failed`: how many rows have no answer. The fit does not use them.
    `others`: how many rows have an instruction that is not the task's own. The fit does not use them either.
    `automatic`: the thresholds above which answers need no review, or None.
    `sets`: the rule that chooses a row's plausible answers, or None.
    `labels`: the corrections of single labels, or None.
    `none`: the rule for the answer "none of these", or None.

    Even if the fit is refused, `automatic`, `sets`, `labels` or `none` may be worth keeping. The calibration then has
    temperature 1.
    """

    scope: Scope
    data: DataFile
    fit: Fit | None
    refusal: str | None
    failed: int
    others: int
    automatic: Automatic | None = None
    sets: AnswerSets | None = None
    labels: dict[str, Correction] | None = None
    none: NoneFit | None = None

    @property
    def calibration(self) -> Calibration | None:
        """The calibration to keep, or None if there is nothing to keep.

        If the fit is refused but thresholds or rules are worth keeping, the calibration has temperature 1.
        """
        fit = self.fit
        rule = self.none.rule if self.none and self.none.refusal is None else None
        if fit is None or (self.refusal and not (self.automatic or self.sets or self.labels or rule)):
            return None
        refused = self.refusal is not None
        by_option = None if refused else fit.by_option
        return Calibration(
            scope=self.scope,
            temperature=1.0 if refused else fit.temperature,
            bias=0.0 if refused else fit.bias,
            least_coverage=fit.least_coverage,
            rows=fit.rows,
            held_out=fit.rows,
            before=fit.before,
            after=fit.before if refused else fit.after,
            data=self.data.name,
            data_sha256=self.data.sha256,
            versions={"ecellm_lite": __version__, "llama_cpp_python": ggml.version()},
            format=FORMAT,
            automatic=self.automatic,
            sets=self.sets,
            labels=self.labels,
            vector=by_option if isinstance(by_option, VectorScaling) else None,
            isotonic=by_option if isinstance(by_option, IsotonicRegression) else None,
            methods=fit.methods,
            none=rule,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return asdict(self)


def read_tasks(
    data: Path,
    tasks: Sequence[Task],
    *,
    split: str = SPLIT,
    setting: str = SETTING,
    limit: int | None = None,
    reading: LabelledOptions | None = None,
) -> tuple[list[LabelledTask], LabelledRows]:
    """Return the tasks that have labelled rows in a file or folder, and all rows and unreadable lines found there.

    `reading`: how a table of labelled rows is read.

    Raises InputError if there are no labelled rows. Raises UsageError if scipy or scikit-learn is not installed,
    because fitting needs both.
    """
    check_installed()
    files = labelled_files(data, tasks, split, reading)
    gathered = gather(files, tasks, split=split, setting=setting, limit=limit)
    hashes = {file.task and file.task.name: file.hashed for file in files}
    labelled = [
        LabelledTask(task, rows, hashes[task.name if task.name in hashes else None])
        for task in tasks
        if (rows := gathered.rows.get(task.name))
    ]
    return labelled, gathered


def calibrate_task(
    answerer: Answerer,
    task: Task,
    rows: Sequence[Labelled],
    data: DataFile,
    *,
    seed: int = 0,
    adapter: str | None = None,
    target_precision: float | None = None,
    coverage_guarantee: float | None = None,
    progress: Callable[[Answer], None] | None = None,
) -> CalibrationResult:
    """Answer labelled rows without a calibration, and fit a temperature to the answers.

    With enough rows, other methods are compared with a temperature (see evaluate/method_fitting.py). Rows whose
    instruction is not the task's own are left out, because a calibration holds for one instruction.

    `adapter`: the name of the adapter to use, or None for the model alone.
    `target_precision`: the share of the answers above a threshold that must be right, such as 0.95. With None, the
      result has no thresholds.
    `coverage_guarantee`: the share of rows whose set of plausible answers must contain the right answer, such as 0.95.
      With None, the result has no rule for such sets.

    Raises InputError for a task that answers in free text, or if no row has the task's own instruction. Raises
    UsageError if scipy or scikit-learn is not installed.
    """
    pairs = [(row, question) for row in rows if (question := task.question(row.row)).wording == task.wording]
    if not pairs:
        message = f"No row has the instruction of {task.name}, and a calibration holds only for that instruction"
        raise InputError(message, step="give rows with the task's own instruction")
    space = pairs[0][1].space
    if not space.scored:
        raise InputError(f"{task.name} has answers of type {space.type}, which have no probability to calibrate.")
    cases: list[Case] = []
    scored: list[tuple[Space, Answer, Labelled]] = []
    answers = answerer.answers(task, (row.row for row, _ in pairs), calibration=False, adapter=adapter)
    for (row, question), answer in zip(pairs, answers, strict=True):
        if progress:
            progress(answer)
        if answer.error is None:
            cases.append(case_of(question.space, answer, row.gold, row.labels))
            scored.append((question.space, answer, row))
    same = len({question.space.alternatives for _, question in pairs}) == 1 and bool(space.alternatives)
    fitted: Fit | None = None
    try:
        fitted = fit(_fitting(scored, cases), biased=space.biased, seed=seed)
        if same and type(space) in COMPARED:
            rows_of_options = [
                (answer.probabilities or {}, space.alternatives.index(row.gold)) for _, answer, row in scored
            ]
            fitted = choose_method(fitted, OptionRows.of(space.keys, rows_of_options), seed=seed)
        refusal = fitted.refusal
    except InputError as error:
        refusal = str(error).rstrip(".")
    scope = _scope(answerer, task, space.type, [question for _, question in pairs], adapter)
    failed, others = len(pairs) - len(cases), len(rows) - len(pairs)
    shared = Correction(fitted.temperature, fitted.bias) if fitted and not refusal else Correction()
    by_option = fitted.by_option if fitted and not refusal else None
    own: dict[str, Correction] = {}
    if fitted and isinstance(space, SeveralLabels):
        own = own_corrections(space.labels, cases, shared, seed=seed)
    none: NoneFit | None = None
    if fitted and isinstance(space, OrNone):
        least = float(np.quantile([case.coverage for case in cases], STRANGE))
        fitted = replace(fitted, least_coverage=least)  # of the rows that fit no label, too
        corrected = [space.corrected(outcome_of(answer), shared, own) for _, answer, _ in scored]
        rows_of_none = [none_row(space, each, row.gold) for each, (_, _, row) in zip(corrected, scored, strict=True)]
        none = fit_none(rows_of_none, seed=seed)
    rule = none.rule if none and none.refusal is None else None
    thresholds: Automatic | None = None
    if fitted and target_precision is not None:

        def correct(space: Space, outcome: Outcome) -> Outcome:
            if by_option:
                return space.corrected_by_option(outcome, by_option)
            outcome = space.corrected(outcome, shared, own)
            return space.ruled(outcome, rule) if rule and isinstance(space, OrNone) else outcome

        whole = [judged(*each, correct, fitted.least_coverage) for each in scored]
        thresholds = automatic(whole, target_precision, by_answer=same, seed=seed)
    sets: AnswerSets | None = None
    if fitted and coverage_guarantee is not None:
        rows_of = [row_of(answer, case) for (_, answer, _), case in zip(scored, cases, strict=True)]
        sets = answer_sets(rows_of, coverage_guarantee, seed=seed)
    return CalibrationResult(scope, data, fitted, refusal, failed, others, thresholds, sets, own or None, none)


def _fitting(scored: Sequence[tuple[Space, Answer, Labelled]], cases: Sequence[Case]) -> Sequence[Case]:
    """Return the cases that a temperature is fitted to.

    For a task with the answer "none of these", the temperature corrects only the choice among the labels. So rows
    whose gold answer is "none of these" are left out.
    """
    fitting = []
    for (space, answer, row), case in zip(scored, cases, strict=True):
        if not isinstance(space, OrNone):
            fitting.append(case)
        elif not space.is_none(row.gold):
            fitting.append(Case((space.label_claim(answer, row.gold),), case.coverage))
    return fitting


def _scope(answerer: Answerer, task: Task, type_: str, questions: Sequence[Question], adapter: str | None) -> Scope:
    options = {question.answers for question in questions}
    fixed = options.pop() if len(options) == 1 else None
    return Scope(
        task=task.name,
        type=type_,
        model=answerer.model.sha256,
        envelope=answerer.envelope.name,
        instruction=text_hash(task.wording),
        options=None if fixed is None else text_hash(fixed),
        adapter=answerer.adapters[adapter] if adapter else None,
    )
