"""Every task's main metric in one table, beside the paper's models."""

from __future__ import annotations

from dataclasses import dataclass

from ecellm_lite.evaluate.metrics.measured import LOWER_IS_BETTER
from ecellm_lite.evaluate.paper import in_paper, paper_figures
from ecellm_lite.evaluate.report.words import label
from ecellm_lite.evaluate.results import Results, TaskResult

FAMILY = "eCeLLM-"  # the paper's own models


@dataclass(frozen=True, slots=True)
class OverviewRow:
    """A task's line in the table: the result of this evaluation, and the result of each of the paper's models."""

    abbreviation: str
    metric: str
    every: float | None
    low: float | None
    high: float | None
    paper: float | None
    rows: int
    without: int
    ece: float | None
    rate: float | None
    figures: list[float | None]
    is_share: bool  # from 0 (bad) to 1 (perfect)

    @property
    def best(self) -> float | None:
        """The highest result of the paper's models in this task, or None if there is no result."""
        return max((figure for figure in self.figures if figure is not None), default=None)


@dataclass(frozen=True, slots=True)
class Overview:
    """A table with a column for each model of the paper (eCeLLM first), and a line for each task.

    `in_paper`: whether the paper has at least one of the tasks.
    """

    models: list[str]
    in_paper: bool
    domain: str
    lines: list[OverviewRow]


def draw(results: Results) -> Overview:
    """Return the table of all tasks. A model of the paper is left out if it has no result for these tasks."""
    setting = results.settings.setting
    task_figures = [paper_figures(task.abbreviation, task.primary, setting) for task in results.tasks.values()]
    names = dict.fromkeys(model for figures in task_figures for model in figures)
    models = sorted(names, key=lambda model: not model.startswith(FAMILY))
    lines = [
        _line(task, [figures.get(model) for model in models])
        for task, figures in zip(results.tasks.values(), task_figures, strict=True)
    ]
    domain = "on products of other kinds (out of domain)" if (setting or "").startswith("OOD") else "in domain"
    paper = any(in_paper(task.abbreviation) for task in results.tasks.values())
    return Overview(models, paper, domain, lines)


def _line(task: TaskResult, figures: list[float | None]) -> OverviewRow:
    every = task.metrics.all.get(task.primary)
    has_score = every is not None and task.rows > 0
    return OverviewRow(
        abbreviation=task.abbreviation,
        metric=label(task.primary),
        every=every if has_score else None,
        low=task.interval.low if has_score else None,
        high=task.interval.high if has_score else None,
        paper=task.metrics.paper.get(task.primary) if has_score else None,
        rows=task.rows,
        without=task.failed + task.abstained + len(task.unreadable),
        ece=task.reliability.ece if task.reliability else None,
        rate=task.rows_per_second if has_score else None,
        figures=figures,
        is_share=task.primary not in LOWER_IS_BETTER,
    )
