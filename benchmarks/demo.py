"""Claim: the demo model knows its trade: it answers better than its base, and than any answer that is always the same.

    ecellm-lite eval --task all --data ../shared/data --output demo.json
    ecellm-lite eval --task all --data ../shared/data --model base.gguf --envelope alpaca --output base.json
    ecellm-lite eval --task PM --data ../shared/data --instruction "..." --output words.json
    python -m benchmarks.demo demo.json base.json --paraphrased words.json

`base.gguf` is the base converted to the demo's file type without the adapter; the instructions in other words are
those of ecellm_lite/demo/training/paraphrases.py that nothing was trained on. For each task one metric (macro-F1 for
yes or no and for options, F1* for extraction, HR@1, NDCG, ROUGE-L), with its 95% interval, of four ways to answer the
test rows: the demo, the base, the commonest answer of the training rows, and the constant answer that is best on them;
and by a paired bootstrap what the demo has above each of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite.evaluate.baselines import best_constant, majority
from ecellm_lite.evaluate.bootstrap import interval, paired_interval
from ecellm_lite.evaluate.labelled import Labelled
from ecellm_lite.evaluate.labelled_files import gather, labelled_files
from ecellm_lite.evaluate.metrics.classes import class_table
from ecellm_lite.evaluate.metrics.kinds import measure
from ecellm_lite.evaluate.metrics.measured import Metric, Numbers, Pair
from ecellm_lite.evaluate.metrics.predicates import word_table
from ecellm_lite.evaluate.results import Record, read_results
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Task

YES_NO = ("PM", "PSI", "AP")
OPTIONS = ("PRP", "SA", "MPC")


@click.command()
@click.argument("demo", type=click.Path(exists=True, path_type=Path))
@click.argument("base", type=click.Path(exists=True, path_type=Path))
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option(
    "--paraphrased", type=click.Path(exists=True, path_type=Path), multiple=True, help="Results in other words."
)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/demo.json"))
def main(demo: Path, base: Path, data: Path, paraphrased: Sequence[Path], output: Path) -> None:
    """Put the four ways side by side and write the table."""
    found, other = read_results(demo), read_results(base)
    words = {name: task for path in paraphrased for name, task in read_results(path).tasks.items()}
    tasks = {}
    for name, result in found.tasks.items():
        task = get_task(name)
        training, test = (
            gather(labelled_files(data, [task], split), [task], split=split).rows[name] for split in ("train", "test")
        )
        ways = {
            "demo": _texts(result.records, test),
            "base": _texts(other.tasks[name].records, test),
            "majority": [pair.text for pair in majority(training).pairs(test)],
            "best_constant": [pair.text for pair in best_constant(training).pairs(test)],
        }
        tasks[name] = {
            **measured(task, test, ways),
            "f1_of_yes": result.metrics.all.get("f1") if task.abbreviation in YES_NO else None,
            "ece": result.reliability.ece if result.reliability else None,
            "brier": result.reliability.brier if result.reliability else None,
            "ece_count": result.reliability.count if result.reliability else None,
            "rows_per_second": result.rows_per_second,
        }
        if name in words:
            texts = _texts(words[name].records, test)
            tasks[name]["paraphrased"] = measured(task, test, {"demo": ways["demo"], "paraphrased": texts})
        click.echo(f"{task.abbreviation}: {tasks[name]['values']} {tasks[name]['above']}", err=True)
    facts = {"model": found.model.sha256, "base": other.model.sha256, "calibrated": found.calibrated, "tasks": tasks}
    write_results(output, "demo", facts)


def measured(task: Task, test: Sequence[Labelled], ways: Mapping[str, Sequence[str | None]]) -> dict[str, Any]:
    """Return each way's metric with its interval, and what the first has above the others."""
    columns: dict[str, Numbers] = {}
    for way, texts in ways.items():
        metric_name, columns[way], metric = _columns(task, test, texts)
    first = next(iter(ways))
    values = {
        way: {"value": round(float(metric(own.sum(axis=0))), 4), **_rounded(interval(own, metric))}
        for way, own in columns.items()
    }
    above = {
        way: _rounded(paired_interval(own, columns[first], metric)) for way, own in columns.items() if way != first
    }
    return {"metric": metric_name, "rows": len(test), "values": values, "above": above}


def _columns(task: Task, test: Sequence[Labelled], texts: Sequence[str | None]) -> tuple[str, Numbers, Metric]:
    gold = [row.gold for row in test]
    if task.abbreviation in (*YES_NO, *OPTIONS):
        # One table for all ways: the labels of the task, whichever of them an answer uses.
        table = word_table(gold, texts) if task.abbreviation in YES_NO else class_table(gold, texts, "ABCDE")
        return "macro_f1", table.columns, lambda sums: table.macro_f1(table.counts(sums))
    pairs = [Pair(row.gold, text, row.labels) for row, text in zip(test, texts, strict=True)]
    all_rows = measure(task, pairs)
    return all_rows.primary, all_rows.columns, all_rows.all[all_rows.primary]


def _texts(records: Sequence[Record], test: Sequence[Labelled]) -> list[str | None]:
    known = {(record.id, record.line): record.text for record in records}
    return [known[row.id, row.line] for row in test]


def _rounded(found: Any) -> dict[str, float]:
    return {"low": round(found.low, 4), "high": round(found.high, 4)}


if __name__ == "__main__":
    main()
