"""Compares the demo model with its base model and with always giving the same answer.

    ecellm-lite eval --task all --data ../shared/data --output demo.json
    ecellm-lite eval --task all --data ../shared/data --model base.gguf --envelope alpaca --limit 150 --output base.json
    ecellm-lite eval --task PM --data ../shared/data --instruction "..." --output words.json
    python -m benchmarks.demo demo.json base.json --paraphrased words.json

On rows of other sources, the base model is not needed:

    ecellm-lite eval --task all --data ../shared/data/more --output more.json
    python -m benchmarks.demo more.json --data ../shared/data/more --output benchmarks/results/demo_more.json

`base.gguf` is the base without the adapter, converted to the demo's file type. The test rows are answered in four
ways:

- by the demo;
- by the base;
- with the most frequent answer of the training rows;
- with the one answer that would score best if all training rows got it.

`--before` adds a fifth way: the answers of an earlier adapter to the same rows. With `--paraphrased`, the demo is also
compared with itself on paraphrased instructions. These are the instructions of ecellm_lite/training/paraphrases.py that
were not used in training.

For each task, the results have the metric of each way, with its 95% interval. The metric is macro-F1 for yes/no and for
options, F1* for extraction, and otherwise HR@1, NDCG or ROUGE-L. The results also have the difference between the
demo's metric and the metric of each other way, with its interval. The difference is measured on the rows that both ways
answered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite.evaluate.baselines import Constant, constants, majority
from ecellm_lite.evaluate.bootstrap import interval, paired_interval
from ecellm_lite.evaluate.labelled import Labelled
from ecellm_lite.evaluate.labelled_files import gather, labelled_files
from ecellm_lite.evaluate.metrics.classes import class_table
from ecellm_lite.evaluate.metrics.kinds import measure
from ecellm_lite.evaluate.metrics.measured import Metric, Numbers, Pair
from ecellm_lite.evaluate.metrics.predicates import f1_of_yes, word_table
from ecellm_lite.evaluate.results import RowResult, read_results
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Task

# Answers' texts by the row's id and line.
Texts = Mapping[tuple[str | int | None, int], str | None]

YES_NO = ("PM", "PSI", "AP")
OPTIONS = ("PRP", "SA", "MPC")


@click.command()
@click.argument("demo", type=click.Path(exists=True, path_type=Path))
@click.argument("base", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option(
    "--paraphrased",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="Results with paraphrased instructions.",
)
@click.option("--before", type=click.Path(exists=True, path_type=Path), help="Results of an earlier adapter.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/demo.json"))
def main(
    demo: Path, base: Path | None, data: Path, paraphrased: Sequence[Path], before: Path | None, output: Path
) -> None:
    """Compare the demo with its base and with constant answers, and write the results."""
    demo_results = read_results(demo)
    models = {name: read_results(path) for name, path in (("base", base), ("before", before)) if path}
    words = {name: task for path in paraphrased for name, task in read_results(path).tasks.items()}
    tasks = {}
    for name, result in demo_results.tasks.items():
        task = get_task(name)
        training, all_test = (
            gather(labelled_files(data, [task], split), [task], split=split).rows[name] for split in ("train", "test")
        )
        # A few test rows have the same input as a training row.
        learned = {input_of(row) for row in training}
        test = [row for row in all_test if input_of(row) not in learned]
        ways = {
            "demo": _texts(result.records),
            **{model: _texts(results.tasks[name].records) for model, results in models.items()},
            "majority": _constant(majority(training), test),
            "best_constant": _constant(best_constant(task, training), test),
        }
        tasks[name] = {
            **measured(task, test, ways),
            "left_out_as_learned": len(all_test) - len(test),
            "f1_of_yes": _f1_of_yes(test, ways["demo"]) if task.abbreviation in YES_NO else None,
            "ece": result.reliability.ece if result.reliability else None,
            "brier": result.reliability.brier if result.reliability else None,
            "ece_count": result.reliability.count if result.reliability else None,
            "rows_per_second": result.rows_per_second,
        }
        if name in words:
            texts = _texts(words[name].records)
            tasks[name]["paraphrased"] = measured(task, test, {"demo": ways["demo"], "paraphrased": texts})
        click.echo(f"{task.abbreviation}: {tasks[name]['values']} {tasks[name]['above']}", err=True)
    facts = {
        "model": demo_results.model.sha256,
        **{name: results.model.sha256 for name, results in models.items()},
        "calibrated": demo_results.calibrated,
        "tasks": tasks,
    }
    write_results(output, "demo", facts)


def input_of(row: Labelled) -> str:
    """Return a row's input as JSON text. Rows with the same input give the same text."""
    return json.dumps(row.row["input"], sort_keys=True)


def best_constant(task: Task, training: Sequence[Labelled]) -> Constant:
    """Return the answer that would have the best metric if it were given to every training row."""

    def worth(constant: Constant) -> float:
        _, columns, metric = _columns(task, training, _constant(constant, training))
        return float(metric(columns.sum(axis=0)))

    return max(constants(training), key=worth)


def measured(task: Task, test: Sequence[Labelled], ways: Mapping[str, Texts]) -> dict[str, Any]:
    """Return the metric of each way of answering, and the first way's advantage over each of the other ways.

    A way's metric is measured on the rows that this way answered. The advantage is the confidence interval of a
    difference: the first way's metric minus the other way's metric, both on the rows that both ways answered.
    """
    first = next(iter(ways))
    values: dict[str, Any] = {}
    above: dict[str, Any] = {}
    for way, texts in ways.items():
        rows = [row for row in test if (row.id, row.line) in texts]
        name, columns, metric = _columns(task, rows, texts)
        value = round(float(metric(columns.sum(axis=0))), 4)
        values[way] = {"rows": len(rows), "value": value, **_rounded(interval(columns, metric))}
        if way != first:
            both = [row for row in rows if (row.id, row.line) in ways[first]]
            _, columns, metric = _columns(task, both, texts)
            _, best, _ = _columns(task, both, ways[first])
            above[way] = _rounded(paired_interval(columns, best, metric))
    return {"metric": name, "rows": len(test), "values": values, "above": above}


def _columns(task: Task, rows: Sequence[Labelled], answers: Texts) -> tuple[str, Numbers, Metric]:
    gold, texts = [row.gold for row in rows], [answers[row.id, row.line] for row in rows]
    if task.abbreviation in (*YES_NO, *OPTIONS):
        # All ways use the same table: it has all the task's labels, also those that no answer uses.
        table = word_table(gold, texts) if task.abbreviation in YES_NO else class_table(gold, texts, "ABCDE")
        return "macro_f1", table.columns, lambda sums: table.macro_f1(table.counts(sums))
    pairs = [Pair(row.gold, text, row.labels) for row, text in zip(rows, texts, strict=True)]
    all_rows = measure(task, pairs)
    return all_rows.primary, all_rows.columns, all_rows.all[all_rows.primary]


def _f1_of_yes(rows: Sequence[Labelled], answers: Texts) -> dict[str, float]:
    kept = [row for row in rows if (row.id, row.line) in answers]
    table = word_table([row.gold for row in kept], [answers[row.id, row.line] for row in kept])
    metric = f1_of_yes(table)
    value = round(float(metric(table.columns.sum(axis=0))), 4)
    return {"value": value, **_rounded(interval(table.columns, metric))}


def _texts(records: Sequence[RowResult]) -> Texts:
    return {(record.id, record.line): record.text for record in records}


def _constant(constant: Constant, test: Sequence[Labelled]) -> Texts:
    return {(row.id, row.line): pair.text for row, pair in zip(test, constant.pairs(test), strict=True)}


def _rounded(ends: Any) -> dict[str, float]:
    return {"low": round(ends.low, 4), "high": round(ends.high, 4)}


if __name__ == "__main__":
    main()
