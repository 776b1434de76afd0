"""Measures how well a choice recognizes the rows that fit none of its labels.

    python -m benchmarks.none_of_these --model demo

A custom task with `none = true` may answer "none" instead of one of its labels. Labelled rows are answered as rows of
such a task. There are two kinds of rows that fit no label:

- `removed`: the row's own label is not among the choices, but all other labels of its task are;
- `foreign`: all labels are among the choices, but the row's text comes from another task.

The rows are answered in three ways:

- `unlisted`: the prompt lists only the labels. A rule decides whether no label fits, from the coverage and the
  likeliest label's probability;
- `default`: the prompt lists "none" as the last option. There is no rule;
- `calibrated`: the prompt lists "none" as the last option, and a rule corrects its probability.

Each rule is fitted to one half of the rows and measured on the other half. Then the halves are swapped. For each kind
of row and each way, the results have the precision, recall and F1 of the answer "none". They also have the accuracy
over all rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite import Answer, Runtime, load_task
from ecellm_lite.answers.none_of_these import NoneRule
from ecellm_lite.evaluate.none_fitting import NoneRow, fit_none
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Task

NONE = "none of these"
FOREIGN = "answerability_prediction", "question"


@dataclass(frozen=True, slots=True)
class Setting:
    """One of the ten tasks, changed so that some rows fit no label.

    It has the letter of the label to remove, and the field whose text is replaced by a text from another task.
    """

    task: str
    removed: str
    field: str


SETTINGS = (
    Setting("sentiment_analysis", "C", "review"),
    Setting("multiclass_product_classification", "D", "title"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A row's fields, and its right answer: a label or NONE."""

    row: dict[str, str]
    gold: str


@click.command()
@click.option("--model", default="demo", show_default=True)
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--rows", "count", type=click.IntRange(40), default=300, show_default=True, help="Rows of each setting.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/none_of_these.json"))
def main(model: str, data: Path, count: int, output: Path) -> None:
    """Answer rows, some of which fit no label, and write how well "none of these" is recognized."""
    settings: dict[str, Any] = {}
    with Runtime(model, prefix_files=False) as runtime, TemporaryDirectory() as folder:
        for setting in SETTINGS:
            labels = labels_of(setting)
            for kind, rows in rows_of(setting, labels, data, count).items():
                choices = [label for letter, label in labels.items() if kind == "foreign" or letter != setting.removed]
                listed, unlisted = (own_task(setting, choices, none, Path(folder)) for none in (True, False))
                settings[f"{setting.task}, {kind}"] = {
                    "rows": len(rows),
                    "unfitting": sum(row.gold == NONE for row in rows),
                    "unlisted": ruled(rows, ask(runtime, unlisted, rows)),
                    "default": measured(rows, ask(runtime, listed, rows), [NoneRule()] * len(rows)),
                    "calibrated": ruled(rows, ask(runtime, listed, rows)),
                }
        results = {"model": runtime.model.title, "settings": settings}
    click.echo(table(settings), err=True)
    write_results(output, "none_of_these", results)


def labels_of(setting: Setting) -> dict[str, str]:
    """Return all labels of a setting's task as {letter: label}, including the one that the setting removes."""
    task = get_task(setting.task)
    lines: list[str] = json.loads(str(task.question(task.example()).options))
    return {line[0]: line[3:].rstrip(".") for line in lines}


def rows_of(setting: Setting, labels: dict[str, str], data: Path, count: int) -> dict[str, list[Asked]]:
    """Return two lists of rows, under the keys `removed` and `foreign`. In each list, some rows fit no label.

    In `removed`, these are the rows whose own label is not among the choices. In `foreign`, a third of the rows have a
    text from another task.
    """
    rows = [(row["input"], row["output"][0]) for row in read(data, setting.task)[:count]]
    others = [row["input"][FOREIGN[1]] for row in read(data, FOREIGN[0])[: len(rows) // 2]]
    foreign = [Asked({**row, setting.field: other}, NONE) for (row, _), other in zip(rows, others, strict=False)]
    return {
        "removed": [Asked(row, NONE if letter == setting.removed else labels[letter]) for row, letter in rows],
        "foreign": [*(Asked(row, labels[letter]) for row, letter in rows), *foreign],
    }


def read(data: Path, task: str) -> list[dict[str, Any]]:
    """Return a task's labelled test rows."""
    return [json.loads(line) for line in (data / task / "test.jsonl").read_text("utf-8").splitlines()]


def own_task(setting: Setting, choices: Sequence[str], none: bool, folder: Path) -> Task:
    """Write the file of a custom task with these labels into `folder`, and return the task."""
    task = get_task(setting.task)
    path = folder / "own.toml"
    fields = "".join(f"[[fields]]\nname = {json.dumps(field.name)}\n" for field in task.fields if field.required)
    path.write_text(
        f'name = "own"\nsummary = "A choice."\ninstruction = {json.dumps(task.instruction)}\n{fields}[answer]\n'
        f'type = "choice"\nchoices = [{", ".join(f"{{ value = {json.dumps(label)} }}" for label in choices)}]\n'
        + (f"none = {json.dumps(NONE)}\n" if none else "")
    )
    return load_task(path)


def ask(runtime: Runtime, task: Task, rows: Sequence[Asked]) -> list[Answer]:
    """Return the task's answers to the rows."""
    answers = list(runtime.answers(task, [row.row for row in rows], calibration=False))
    if failed := next((answer.error for answer in answers if answer.error), None):
        raise click.ClickException(f"A row failed: {failed}")
    return answers


def ruled(rows: Sequence[Asked], answers: Sequence[Answer]) -> dict[str, float]:
    """Return the precision, recall, F1 and accuracy if a fitted rule decides which answers are "none of these".

    A rule is fitted to each half of the rows, and is applied to the other half.
    """
    rules = [NoneRule()] * len(rows)
    for half in (0, 1):
        fitted = fit_none([none_row(rows[place], answers[place]) for place in range(1 - half, len(rows), 2)])
        for place in range(half, len(rows), 2):
            rules[place] = fitted.rule if fitted else NoneRule()
    return measured(rows, answers, rules)


def none_row(row: Asked, answer: Answer) -> NoneRow:
    """Return a row in the form to which a rule for "none of these" is fitted.

    `outside` is the model's probability of "none of these" or, if the prompt does not list "none of these", 1 minus the
    coverage. `label` is the likeliest label's share among the labels.
    """
    shares = dict(answer.probabilities or {})
    outside = shares.pop(NONE, 1.0 - (answer.coverage or 0.0))
    return NoneRow(row.gold == NONE, outside, max(shares.values()) / sum(shares.values()))


def measured(rows: Sequence[Asked], answers: Sequence[Answer], rules: Sequence[NoneRule]) -> dict[str, float]:
    """Return the precision, recall and F1 of the answer "none of these", and the accuracy over all rows.

    `rules`: for each row, the rule that computes the probability of "none of these".
    """
    hits = right = said = 0
    for row, answer, rule in zip(rows, answers, rules, strict=True):
        case = none_row(row, answer)
        none = rule.probability(case.outside, case.label)
        shares = {key: share for key, share in (answer.probabilities or {}).items() if key != NONE}
        chosen = NONE if none > (1.0 - none) * case.label else max(shares, key=shares.__getitem__)
        said += chosen == NONE
        hits += chosen == row.gold == NONE
        right += chosen == row.gold
    unfitting = sum(row.gold == NONE for row in rows)
    return {
        "precision": round(hits / said, 3) if said else 0.0,
        "recall": round(hits / unfitting, 3),
        "f1": round(2 * hits / (said + unfitting), 3),
        "accuracy": round(right / len(rows), 3),
    }


def table(settings: dict[str, Any]) -> str:
    """Return the results as a table in Markdown."""
    lines = ["| rows | | precision | recall | F1 | all rows right |", "|---|---|---|---|---|---|"]
    for name, result in settings.items():
        for way in ("unlisted", "default", "calibrated"):
            figures = " | ".join(f"{number:.3f}" for number in result[way].values())
            lines.append(f"| {name} ({result['unfitting']} of {result['rows']} fit no label) | {way} | {figures} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
