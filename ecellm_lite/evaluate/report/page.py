"""The report as one page of HTML: the tasks' metrics, figures and example rows."""

from __future__ import annotations

from dataclasses import dataclass

from ecellm_lite.evaluate.paper import in_paper
from ecellm_lite.evaluate.report import confusion, overview, reliability, risk, standing
from ecellm_lite.evaluate.report.words import label, meaning, summary, title
from ecellm_lite.evaluate.results import Results, TaskResult
from ecellm_lite.report import rendering
from ecellm_lite.report.shown import count, cut, span

assert __package__
PACKAGE = __package__  # whose templates are rendered


@dataclass(frozen=True, slots=True)
class Metric:
    """A line in a task's table of metrics."""

    label: str
    words: str
    every: float | None
    paper: float | None
    main: bool


@dataclass(frozen=True, slots=True)
class Section:
    """A task's part of the page. A figure without data is None. `in_paper`: whether the paper has the task."""

    anchor: str
    title: str
    summary: str
    in_paper: bool
    task: TaskResult
    metrics: list[Metric]
    confusion: confusion.Matrix | None
    reliability: reliability.Diagram | None
    risk: risk.Curve | None


def check() -> None:
    """Raise UsageError if jinja2 is not installed. Call this before an evaluation, which may take hours."""
    rendering.check(PACKAGE)


def page(results: Results) -> str:
    """Return the whole report as HTML. Raises UsageError if jinja2 is not installed."""
    table = overview.draw(results)
    versions = results.versions
    return rendering.render(
        PACKAGE,
        "page.html",
        results=results,
        short=_short(results),
        when=cut(results.created.replace("T", " ").replace("+00:00", " UTC")),
        settings=_settings(results),
        software=cut(
            f"ecellm-lite {versions.ecellm_lite}, llama-cpp-python {versions.llama_cpp_python}, "
            f"Python {versions.python}",
            200,
        ),
        overview=table,
        standing=standing.draw(table),
        sections=[_section(index, name, task) for index, (name, task) in enumerate(results.tasks.items(), 1)],
    )


def _section(index: int, name: str, task: TaskResult) -> Section:
    names = dict.fromkeys([task.primary, *task.metrics.all, *task.metrics.paper])
    metrics = [metric for metric in names if metric in task.metrics.all or metric in task.metrics.paper]
    return Section(
        anchor=f"task-{index}",
        title=title(name),
        summary=summary(name),
        in_paper=in_paper(task.abbreviation),
        task=task,
        metrics=[
            Metric(
                label(metric),
                meaning(metric),
                task.metrics.all.get(metric),
                task.metrics.paper.get(metric),
                metric == task.primary,
            )
            for metric in metrics
            if task.rows
        ],
        confusion=confusion.draw(task.confusion) if task.confusion else None,
        reliability=reliability.draw(task.reliability) if task.reliability else None,
        risk=risk.draw(task.risk, task.rows) if task.risk else None,
    )


def _short(results: Results) -> str:
    tasks, rows = len(results.tasks), sum(task.rows for task in results.tasks.values())
    summary = f"{tasks} {'task' if tasks == 1 else 'tasks'}, {count(rows)} labelled {'row' if rows == 1 else 'rows'}"
    failures = results.failures
    without = f"{count(failures)} failed or could not be read" if failures else "none failed"
    return f"{summary}, {without}; {span(results.seconds)}."


def _settings(results: Results) -> list[tuple[str, str]]:
    settings = results.settings
    values = {
        "Rows per task": None if settings.limit is None else f"at most {count(settings.limit)}",
        "Split": settings.split,
        "Setting": settings.setting,
        "Deterministic": "yes: the same answers every time" if settings.deterministic else "no",
        "Instruction": settings.instruction or "each task's own",
        "Least probability": None if settings.min_probability is None else f"{settings.min_probability:g}",
    }
    return [(name, value) for name, value in values.items() if value is not None]
