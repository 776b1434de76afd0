"""Turns labelled rows and their answers into results: metrics, intervals, curves, and example rows.

The examples are the slowest and the least certain rows.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from heapq import nlargest, nsmallest
from importlib.metadata import PackageNotFoundError, version

from ecellm_lite.answers.answer import Answer, ModelName, corrects
from ecellm_lite.answers.claims import Claim
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.score import Score
from ecellm_lite.cascade import Work
from ecellm_lite.evaluate.bootstrap import interval
from ecellm_lite.evaluate.cases import Case, case_of
from ecellm_lite.evaluate.labelled import Labelled
from ecellm_lite.evaluate.metrics.kinds import measure, primary_metric
from ecellm_lite.evaluate.metrics.measured import Measured, Pair
from ecellm_lite.evaluate.metrics.typed import typed_counts
from ecellm_lite.evaluate.paper import paper_figures
from ecellm_lite.evaluate.reliability import reliability, risk
from ecellm_lite.evaluate.results import (
    FORMAT,
    DataFile,
    EvaluationSettings,
    Example,
    Interval,
    Metrics,
    ModelResult,
    Results,
    RowResult,
    TaskResult,
    Uncalibrated,
    Unreadable,
    Versions,
)
from ecellm_lite.tasks.task import Task

EXAMPLES = 10  # slowest, and least certain, rows that are shown with their prompts


def evaluate(
    task: Task,
    rows: Sequence[Labelled],
    answers: Sequence[Answer],
    *,
    seconds: float,
    prompt: Callable[[Labelled], str],
    refusal: Callable[[Labelled], str | None] = lambda _: None,
    unreadable: Sequence[Unreadable] = (),
    work: Sequence[Work] = (),
    cases: Sequence[Case | None] | None = None,
) -> TaskResult:
    """Return the result of a task, from its rows and their answers.

    `seconds`: how long it took to answer all rows.
    `prompt`: a function that returns a row's prompt, for the examples.
    `refusal`: a function that returns why the task's calibration is not used for a row. It returns None if the
      calibration is used, or if the task has none.
    `work`: what each model did, if several models share the rows.
    `cases`: for each row, the decisions in its answer and whether they are right, as `judged` returns them. They are
      needed if the answers' probabilities were dropped to save memory.
    """
    models = [_model_result(task, rows, answers, one) for one in work] or None
    measured = measure_rows(task, rows, answers)
    paper, all_rows = measured.values()
    records = [
        RowResult(
            id=answer.id,
            line=row.line,
            gold=row.gold,
            text=answer.text,
            probability=answer.probability,
            coverage=answer.coverage,
            score=score,
            seconds=answer.seconds,
            error=answer.error,
        )
        for row, answer, score in zip(rows, answers, measured.scores, strict=True)
    ]
    every_case = list(map(judged, rows, answers)) if cases is None else cases
    own = {place: case for place, case in enumerate(every_case) if case}
    claims = [claim for case in own.values() for claim in case.claims]
    probabilities = [records[place].probability or 0.0 for place in own]

    def examples(places: Sequence[int]) -> list[Example]:
        return [_example(records[place], prompt(rows[place])) for place in places]

    timed = [place for place, record in enumerate(records) if record.seconds is not None]
    return TaskResult(
        abbreviation=task.abbreviation or task.name,
        rows=len(rows),
        answered=sum(measured.answered),
        failed=sum(answer.error is not None for answer in answers),
        abstained=sum(answer.abstained for answer in answers),
        unreadable=list(unreadable),
        primary=measured.primary,
        metrics=Metrics(paper, all_rows),
        interval=interval(measured.columns, measured.all[measured.primary]),
        notes=[*measured.notes, *_setting_notes(rows, all_rows), *_model_notes(measured.primary, models or [])],
        confusion=measured.confusion,
        reliability=reliability([claim.probability for claim in claims], [claim.correct for claim in claims]),
        risk=risk(probabilities, [case.correct for case in own.values()], len(records)),
        rows_per_second=len(rows) / seconds if seconds else 0.0,
        slowest=examples(nlargest(EXAMPLES, timed, key=lambda place: records[place].seconds or 0.0)),
        least_certain=examples(nsmallest(EXAMPLES, own, key=lambda place: records[place].probability or 0.0)),
        records=records,
        calibration=next((answer.calibration for answer in answers if answer.calibration), None),
        uncalibrated=_uncalibrated(rows, answers, refusal),
        labels=None if measured.labels is None else list(measured.labels),
        models=models,
    )


def judged(row: Labelled, answer: Answer) -> Case | None:
    """Return the claims (decisions) in a row's answer. None if the answer has no probability or no value.

    Each claim has only two options: the chosen option, and all others together.
    """
    if answer.value is None or answer.probability is None:
        return None
    case = case_of(row.space, answer, row.gold, row.labels)
    claims = [Claim((claim.probability, 1.0 - claim.probability), 0 if claim.correct else 1) for claim in case.claims]
    return Case(tuple(claims), case.coverage)


def measure_rows(task: Task, rows: Sequence[Labelled], answers: Sequence[Answer]) -> Measured:
    """Return the metrics of a task's answers. There is one answer for each labelled row."""
    space = task.question(task.example()).space
    extracts, scores = isinstance(space, Extraction), isinstance(space, Score)
    pairs = [
        Pair(
            row.gold,
            answer.text,
            row.labels,
            typed_counts(row.space, row.gold, answer.value) if extracts else (0, 0),
            answer.value if scores else None,
        )
        for row, answer in zip(rows, answers, strict=True)
    ]
    return measure(task, pairs)


def no_rows(task: Task, unreadable: Sequence[Unreadable]) -> TaskResult:
    """Return the result of a task without a readable row."""
    primary = primary_metric(task)
    return TaskResult(
        abbreviation=task.abbreviation or task.name,
        rows=0,
        answered=0,
        failed=0,
        abstained=0,
        unreadable=list(unreadable),
        primary=primary,
        metrics=Metrics({primary: 0.0}, {primary: 0.0}),
        interval=Interval(0.0, 0.0),
        notes=["No row could be read."],
        confusion=None,
        reliability=None,
        risk=None,
        rows_per_second=0.0,
        slowest=[],
        least_certain=[],
        records=[],
    )


def results(
    model: ModelName,
    envelope: str,
    *,
    data: Sequence[DataFile],
    settings: EvaluationSettings,
    seconds: float,
    unreadable: Sequence[Unreadable],
    tasks: dict[str, TaskResult],
) -> Results:
    """Return the results of tasks, with the model, versions, data and settings."""
    return Results(
        format=FORMAT,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=model,
        envelope=envelope,
        calibrated=any(corrects(task.calibration) for task in tasks.values()),
        versions=Versions(_version("ecellm-lite"), _version("llama-cpp-python"), platform.python_version()),
        data=list(data),
        settings=settings,
        seconds=seconds,
        unreadable=list(unreadable),
        tasks=tasks,
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _example(record: RowResult, prompt: str) -> Example:
    return Example(
        id=record.id,
        line=record.line,
        gold=record.gold,
        text=record.text,
        probability=record.probability,
        seconds=record.seconds,
        prompt=prompt,
    )


def _model_result(task: Task, rows: Sequence[Labelled], answers: Sequence[Answer], work: Work) -> ModelResult:
    places = [place for place, answer in enumerate(answers) if answer.model == work.model]
    metric = None
    if places:
        measured = measure_rows(task, [rows[place] for place in places], [answers[place] for place in places])
        metric = measured.values()[1][measured.primary]
    return ModelResult(work.model.title, work.rows, len(places), metric, work.seconds)


def _model_notes(primary: str, models: Sequence[ModelResult]) -> list[str]:
    total = sum(model.answers for model in models) or 1
    return [
        f"{model.model} answered {model.asked:,} rows in {model.seconds:.1f} s; {model.answers:,} answers are final "
        f"({model.answers / total:.0%} of all{'' if model.metric is None else f', {primary} {model.metric:.3f}'})."
        for model in models
    ]


def _setting_notes(rows: Sequence[Labelled], metrics: Mapping[str, float]) -> list[str]:
    """Return notes for the user about the rows' settings (ECInstruct's field `setting`).

    There is a note for rows whose setting has worked examples, because they were answered without these examples. There
    is a note for out-of-domain extractions, because the paper measures them with another metric.
    """
    settings = [str(row.row.get("setting") or "") for row in rows]
    notes = []
    if examples := sum("shot" in setting.lower() for setting in settings):
        notes.append(f"{examples:,} rows have a setting with worked examples, but were answered without them.")
    outside = next((setting for setting in settings if setting.startswith("OOD")), None)
    if rows[0].task.abbreviation == "AVE" and outside:
        figures = paper_figures("AVE", "contained_f1", outside)
        notes.append(
            f"The paper's F1* for out-of-domain rows is called contained_f1 here. It is {metrics['contained_f1']:.3f}; "
            f"the paper reports {', '.join(f'{figure:.3f} for {model}' for model, figure in figures.items())}."
        )
    return notes


def _uncalibrated(
    rows: Sequence[Labelled], answers: Sequence[Answer], refusal: Callable[[Labelled], str | None]
) -> Uncalibrated | None:
    """Count the answers that are not calibrated although their task has a calibration. Return None if there are none.

    The result also has the line of the first such answer, and the reason. Answers without a probability do not count.

    `refusal`: a function that returns why the task's calibration is not used for a row. It returns None if the
      calibration is used, or if the task has none.
    """
    plain = [
        (row.line, reason)
        for row, answer in zip(rows, answers, strict=True)
        if answer.probability is not None and answer.calibration is None and (reason := refusal(row))
    ]
    return Uncalibrated(len(plain), *plain[0]) if plain else None
