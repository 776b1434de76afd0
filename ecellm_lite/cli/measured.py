"""Prints the results of an evaluation or a comparison as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ecellm_lite.answers.answer import ModelName
from ecellm_lite.cli.plain import plain
from ecellm_lite.evaluate.comparison import ChangedRows, Comparison
from ecellm_lite.evaluate.metrics.measured import LOWER_IS_BETTER
from ecellm_lite.evaluate.paper import in_paper, paper_figures
from ecellm_lite.evaluate.results import Interval, Results, TaskResult, Unreadable

_BESIDE = ("eCeLLM-S", "eCeLLM-M", "eCeLLM-L", "GPT-4 Turbo")
_NAMED = 5  # unreadable lines to name for each task, at most
_NAMES = {
    "f1": "F1",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "hr_at_1": "HR@1",
    "ndcg": "NDCG",
    "rouge_l": "ROUGE-L",
    "bertscore_f1": "BERTScore",
    "mae": "mean error",
}


def show_results(results: Results, console: Console | None = None) -> None:
    """Print each task's main metric with its 95% interval, beside the figures of the models in eCeLLM's paper.

    If the paper has none of the tasks, its figures are left out, and so are the figures counted in the paper's way.
    """
    console = console or Console()
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    paper = any(in_paper(task.abbreviation) for task in results.tasks.values())
    heads = ["task", "rows", "metric", "all\nrows", "95%\ninterval"]
    if paper:
        heads += [
            "paper's\nway",
            *(model.replace("eCeLLM-", "eCeLLM\n").replace(" Turbo", "\nTurbo") for model in _BESIDE),
        ]
    for name in heads:
        table.add_column(name, justify="left" if name in {"task", "metric"} else "right", no_wrap=True)
    for task in results.tasks.values():
        table.add_row(*islice(_row(task, results.settings.setting), len(heads)))
    console.print(table)
    for task in results.tasks.values():
        if task.labels:
            _show_labels(task, console)
        elif task.primary == "mae":
            console.print(Text(f"\n{plain(task.abbreviation)}: {_others(task)}"))
    calibrated = ", calibrated" if results.calibrated else ""
    facts = f"{results.model.title} · envelope {results.envelope}{calibrated} · {results.seconds:.1f} s"
    console.print(Text(f"\n{plain(facts)}", style="dim"))
    for task in results.tasks.values():
        for note in (*_missing(task), *task.notes, *_unreadable(task.unreadable)):
            console.print(Text(f"{plain(task.abbreviation)}: {plain(note)}", style="dim"))
    for note in _unreadable(results.unreadable):
        console.print(Text(f"of no known task: {plain(note)}", style="dim"))


def _show_labels(task: TaskResult, console: Console) -> None:
    """Print the task's secondary metrics, and a table with a line for each label."""
    console.print(Text(f"\n{plain(task.abbreviation)}: {_others(task)}".removesuffix(": ")))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("label", "gold", "answered", "precision", "recall", "F1"):
        table.add_column(name, justify="left" if name == "label" else "right")
    for each in task.labels or ():
        shares = (f"{share:.3f}" for share in (each.precision, each.recall, each.f1))
        table.add_row(Text(plain(each.label)), f"{each.gold:,}", f"{each.answered:,}", *shares)
    console.print(table)


def _others(task: TaskResult) -> str:
    """Return a text with a task's secondary metrics, such as "macro-F1 0.812". Empty if there are none."""
    words = {"macro_f1": "macro-F1", "exact": "all right"}
    if task.primary == "mae":
        words = {"accuracy": "likeliest level right", "spearman": "Spearman", "pearson": "Pearson"}
    return ", ".join(f"{word} {task.metrics.all[name]:.3f}" for name, word in words.items() if name in task.metrics.all)


def _row(task: TaskResult, setting: str | None) -> Iterable[str | Text]:
    paper = paper_figures(task.abbreviation, task.primary, setting)
    yield task.abbreviation
    yield f"{task.rows:,}"
    yield _NAMES.get(task.primary, task.primary)
    yield Text(f"{task.metrics.all[task.primary]:.3f}", style="bold")
    yield _ends(task.interval)
    yield f"{task.metrics.paper[task.primary]:.3f}"
    for model in _BESIDE:
        yield f"{paper[model]:.3f}" if model in paper else "-"


def _missing(task: TaskResult) -> Iterable[str]:
    """Yield a sentence that says how many rows have no answer and why, or nothing if all rows have an answer."""
    parts = (("failed", task.failed), ("abstained", task.abstained), ("unreadable", len(task.unreadable)))
    text = ", ".join(f"{count:,} {what}" for what, count in parts if count)
    if text:
        yield f"{text}."


def _unreadable(lines: Sequence[Unreadable]) -> Iterable[str]:
    for line in lines[:_NAMED]:
        yield f"line {line.line}: {line.message}"
    if len(lines) > _NAMED:
        yield f"and {len(lines) - _NAMED:,} more lines: --json and --output list all."


def show_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print how each task's result changed, and which rows changed."""
    console = console or Console()
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("task", "rows", "metric", "before", "after", "difference", "95% interval", "better", "worse"):
        table.add_column(name, justify="left" if name in {"task", "metric", "better", "worse"} else "right")
    for task in comparison.tasks.values():
        sure = task.interval.low > 0 or task.interval.high < 0
        color = "green" if (task.difference > 0) != (task.metric in LOWER_IS_BETTER) else "red"
        table.add_row(
            task.abbreviation,
            f"{task.rows:,}",
            _NAMES.get(task.metric, plain(task.metric)),
            f"{task.before:.3f}",
            f"{task.after:.3f}",
            Text(f"{task.difference:+.3f}", style=f"bold {color}" if sure else ""),
            _ends(task.interval, "+"),
            _named(task.better),
            _named(task.worse),
        )
    console.print(table)
    legend = "better, worse: how many rows, and the first of them by id, or by line where a row has no id"
    console.print(Text(f"\n{legend}", style="dim"))
    console.print(Text(f"from {_model(comparison.before)} to {_model(comparison.after)}", style="dim"))
    for warning in comparison.warnings:
        console.print(Text(plain(warning), style="yellow"))


def _ends(interval: Interval, sign: str = "") -> str:
    return f"{interval.low:{sign}.3f}…{interval.high:{sign}.3f}"


def _named(flipped: ChangedRows) -> Text:
    more = ", …" if flipped.count > len(flipped.rows) else ""
    rows = f" ({', '.join(plain(str(row)[:24]) for row in flipped.rows)}{more})" if flipped.rows else ""
    return Text(f"{flipped.count:,}{rows}")


def _model(model: ModelName) -> str:
    return f"{plain(model.name)} ({plain(model.sha256[:8])})"
