"""Answers labelled rows with a general model that was not fine-tuned, in the model's own chat form.

    python -m benchmarks.open_model --model qwen2.5-coder-0.5b-instruct-q4_k_m.gguf --data ../shared/data

The tasks are product matching and sentiment analysis. For each, the results have the accuracy and F1. For a task with
the answers "yes" and "no", F1 is computed for the answer "yes", and the results have the area under the ROC curve too.
For other tasks, F1 is the mean of all labels' F1. Each metric has its 95% interval over 2,000 resamples of the rows.
For comparison, the results have the accuracy and F1 of a program that always gives the most frequent label.

The model also answers the example row of every built-in task, and a custom question about a customer's message. Speed
is not measured.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.facts import write_results
from ecellm_lite import Runtime
from ecellm_lite.answers.answer import Answer
from ecellm_lite.tasks.questions import question_task
from ecellm_lite.tasks.registry import TASKS

RESAMPLES = 2000
MEASURED = ("product_matching", "sentiment_analysis")
QUESTION = {
    "type": "choice",
    "instructions": "Which desk should answer the customer?",
    "choices": [{"value": "billing", "description": "invoices and refunds"}, {"value": "delivery"}],
}
STATE = "My parcel never came, and I want to know where it is."

Texts = NDArray[np.str_]
Scores = NDArray[np.float64]


@click.command()
@click.option("--model", type=click.Path(exists=True, path_type=Path), required=True, help="A GGUF file.")
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--task", "tasks", type=click.Choice(MEASURED), multiple=True, help="[default: both]")
@click.option("--rows", type=click.IntRange(2), default=200, show_default=True, help="Of each task.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/open_model.json"))
def main(model: Path, data: Path, tasks: tuple[str, ...], rows: int, output: Path) -> None:
    """Answer the rows, measure the answers, and write the results."""
    with Runtime(model, prefix_files=False) as runtime:
        results: dict[str, Any] = {
            "model": {"file": model.name, "sha256": runtime.model.sha256, "envelope": runtime.envelope.name},
            "examples": examples(runtime),
            "tasks": {},
        }
        for task in tasks or MEASURED:
            lines = (data / task / "test.jsonl").read_text("utf-8").splitlines()[:rows]
            labelled = [json.loads(line) for line in lines]
            answers = list(runtime.answers(task, labelled))
            results["tasks"][task] = measured(answers, [row["output"] for row in labelled])
            click.echo(f"{task}: {results['tasks'][task]}", err=True)
    write_results(output, "open_model", results)


def examples(runtime: Runtime) -> dict[str, Any]:
    """Answer the example of each task and one question of our own. Return the text and coverage of each answer."""
    answers = {name: runtime.answer(name, task.example()) for name, task in TASKS.items()}
    answers["own question"] = runtime.answer(question_task(QUESTION), {"state": STATE})
    return {
        name: {"text": answer.text, "coverage": None if answer.coverage is None else round(answer.coverage, 4)}
        for name, answer in answers.items()
    }


def measured(answers: Sequence[Answer], gold: Sequence[str]) -> dict[str, Any]:
    """Return the metrics of the answers to labelled rows."""
    labels, given = np.array(gold), np.array([answer.text or "" for answer in answers])
    most = Counter(gold).most_common(1)[0][0]
    constant = np.full_like(labels, most)
    binary = set(gold) <= {"yes", "no"}
    f1 = f1_of_yes if binary else macro_f1
    metrics: dict[str, Any] = {
        "rows": len(gold),
        "labels": dict(Counter(gold)),
        "answers": dict(Counter(given.tolist())),
        "coverage": round(float(np.mean([answer.coverage or 0.0 for answer in answers])), 4),
        "accuracy": _with_interval(accuracy, labels, given),
        "f1_of_yes" if binary else "macro_f1": _with_interval(f1, labels, given),
        "most_frequent_label": {
            "label": most, "accuracy": round(accuracy(labels, constant), 3), "f1": round(f1(labels, constant), 3)
        },
    }  # fmt: skip
    if binary:
        shares = np.array([(answer.probabilities or {}).get("yes", 0.0) for answer in answers])
        metrics["roc_auc"] = _with_interval(roc_auc, labels, shares)
    return metrics


def accuracy(gold: Texts, given: Texts) -> float:
    """Return the fraction of right answers."""
    return float((gold == given).mean())


def f1_of_yes(gold: Texts, given: Texts) -> float:
    """Return the F1 score of the label "yes"."""
    return _f1(gold, given, "yes")


def macro_f1(gold: Texts, given: Texts) -> float:
    """Return the mean F1 score of the labels that occur in `gold`."""
    return float(np.mean([_f1(gold, given, str(label)) for label in np.unique(gold)]))


def roc_auc(gold: Texts, shares: Scores) -> float:
    """Return the area under the ROC curve.

    Take a random row with the label "yes" and one with "no". The area is the probability that the first has the higher
    probability of "yes". A tie counts as half.
    """
    yes, no = shares[gold == "yes"][:, None], shares[gold == "no"]
    return float((yes > no).mean() + 0.5 * (yes == no).mean()) if yes.size and no.size else 0.5


def _f1(gold: Texts, given: Texts, label: str) -> float:
    both = int(((gold == label) & (given == label)).sum())
    either = int((gold == label).sum() + (given == label).sum())
    return 2 * both / either if either else 0.0


def _with_interval(metric: Callable[[Any, Any], float], gold: Texts, given: NDArray[Any]) -> dict[str, Any]:
    generator = np.random.default_rng(2402)
    drawn = generator.integers(len(gold), size=(RESAMPLES, len(gold)))
    low, high = np.quantile([metric(gold[rows], given[rows]) for rows in drawn], (0.025, 0.975))
    return {"value": round(metric(gold, given), 3), "interval": [round(float(low), 3), round(float(high), 3)]}


if __name__ == "__main__":
    main()
