"""Compares two ways to give a row several labels: one request for all labels, or a yes-or-no question for each label.

    python -m benchmarks.several_labels --model demo

The rows are product titles of the extraction task. The labels are the six attributes that most often have a value in
the gold answers. A label is right if the row's gold answer has a value for the attribute. If a title mentions an
attribute for which the gold answer has no value, the attribute's label counts as wrong. This lowers the results of both
ways equally. The two ways are:

- `labels`: a custom task with `type = "labels"`, which takes one request per row;
- `questions`: one yes-or-no question per label, as in `/v1/decisions`. A row takes six requests, which begin alike.

Each way first answers all rows at once. Then it answers the first 20 rows one by one. The results have micro-F1 and
macro-F1 at the threshold 0.5, and the area under the ROC curve over all decisions. For comparison, they have the F1 of
a baseline that gives each label its most frequent answer. Expected calibration error and log-likelihood are measured
before and after calibration. The calibration (a temperature and a bias) is fitted to one half of the rows, and
measured on the other half. The results also have the seconds per row and the tokens that the model read per row.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite import Answer, Runtime, load_task
from ecellm_lite.answers.claims import Claim
from ecellm_lite.answers.several_labels import SeveralLabels
from ecellm_lite.evaluate.cases import Case
from ecellm_lite.evaluate.fitting import fit
from ecellm_lite.evaluate.metrics.labels import measure_labels
from ecellm_lite.evaluate.metrics.measured import Pair
from ecellm_lite.tasks.questions import question_task
from ecellm_lite.tasks.task import Task

LABELS = 6
INSTRUCTION = "Say for each attribute whether the product's title names it: yes or no."
QUESTION = "Does the product's title name its {}?"
ONE_BY_ONE = 20  # rows

Shares = list[Mapping[str, float]]  # for each row, the probability of yes by label


@click.command()
@click.option("--model", default="demo", show_default=True)
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--rows", "count", type=click.IntRange(10), default=500, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/several_labels.json"))
def main(model: str, data: Path, count: int, output: Path) -> None:
    """Ask for all labels at once, and for each label by itself. Measure both ways, and write the results."""
    titles, gold, labels = read_rows(data / "attribute_value_extraction" / "test.jsonl", count)
    space = SeveralLabels(labels, (0.5,) * len(labels), 0, len(labels))
    with Runtime(model, prefix_files=False) as runtime, TemporaryDirectory() as folder:
        task = labels_task(labels, Path(folder))
        questions = {label: question_task(predicate(label)) for label in labels}
        ways: Mapping[str, Callable[[Sequence[str]], tuple[Shares, int]]] = {
            "labels": lambda texts: ask_labels(runtime, task, texts),
            "questions": lambda texts: ask_questions(runtime, questions, texts),
        }
        results: dict[str, Any] = {
            "model": runtime.model.title,
            "rows": len(titles),
            "labels": {label: sum(label in row for row in gold) for label in labels},
            "constant": scores(space, [most_frequent(gold, labels)] * len(titles), gold),
            "ways": {},
        }
        for way, ask in ways.items():
            ask(titles[:4])  # loads what is loaded once
            started = time.perf_counter()
            shares, tokens = ask(titles)
            together = (time.perf_counter() - started) / len(titles)
            started = time.perf_counter()
            for title in titles[:ONE_BY_ONE]:
                ask([f"{title} "])  # no text that is still in memory
            alone = (time.perf_counter() - started) / min(ONE_BY_ONE, len(titles))
            results["ways"][way] = {
                **measured(space, shares, gold),
                "seconds_per_row": round(together, 4),
                "seconds_per_row_alone": round(alone, 4),
                "tokens_per_row": round(tokens / len(titles), 1),
            }
            click.echo(f"{way}: {results['ways'][way]}", err=True)
    write_results(output, "several_labels", results)


def read_rows(path: Path, count: int) -> tuple[list[str], list[set[str]], tuple[str, ...]]:
    """Return product titles, the right labels of each title, and all labels."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()[:count]]
    values = [
        {entry["attribute"] for entry in json.loads(row["output"]) if entry["value"] not in (None, "None")}
        for row in rows
    ]
    labels = tuple(label for label, _ in Counter(name for row in values for name in row).most_common(LABELS))
    return [row["input"]["title"] for row in rows], [row & set(labels) for row in values], labels


def labels_task(labels: Sequence[str], folder: Path) -> Task:
    """Write the file of a custom task that asks for all labels, and return the task."""
    path = folder / "attributes.toml"
    choices = ", ".join(f"{{ value = {json.dumps(label)} }}" for label in labels)
    path.write_text(
        f'name = "attributes"\nsummary = "The attributes in a title."\ninstruction = {json.dumps(INSTRUCTION)}\n'
        f'[[fields]]\nname = "title"\n[answer]\ntype = "labels"\nchoices = [{choices}]\n'
    )
    return load_task(path)


def predicate(label: str) -> Mapping[str, Any]:
    """Return the yes-or-no question for one label."""
    return {"type": "predicate", "instructions": QUESTION.format(label)}


def ask_labels(runtime: Runtime, task: Task, texts: Sequence[str]) -> tuple[Shares, int]:
    """Ask for all labels of a row in one request.

    Returns the probability that each label applies to each row, and the number of tokens that the model read.
    """
    answers = list(runtime.answers(task, [{"title": text} for text in texts]))
    return [answer.probabilities or {} for answer in answers], sum(map(read, answers))


def ask_questions(runtime: Runtime, questions: Mapping[str, Task], texts: Sequence[str]) -> tuple[Shares, int]:
    """Ask one question for each row and label.

    Returns the probability that each label applies to each row, and the number of tokens that the model read.
    """
    futures = [{label: runtime.submit(task, {"state": text}) for label, task in questions.items()} for text in texts]
    answers = [{label: future.result() for label, future in row.items()} for row in futures]
    shares: Shares = [{label: (answer.probabilities or {})["yes"] for label, answer in row.items()} for row in answers]
    return shares, sum(read(answer) for row in answers for answer in row.values())


def read(answer: Answer) -> int:
    """Return how many tokens the model read for an answer. Tokens that were already in memory do not count."""
    usage = answer.usage
    if usage is None:
        raise click.ClickException(f"A row failed: {answer.error}")
    return usage.prompt_tokens - (usage.cached_tokens or 0) + usage.decoded_tokens + usage.forced_tokens


def measured(space: SeveralLabels, shares: Shares, gold: Sequence[set[str]]) -> dict[str, Any]:
    """Return the metrics of one way of answering. `shares`: the probability of each label, for each row."""
    from sklearn.metrics import roc_auc_score

    chosen = [{label for label, share in row.items() if share >= 0.5} for row in shares]
    cases = [
        Case(tuple(Claim((row[label], 1 - row[label]), int(label not in right)) for label in space.labels), 1.0)
        for row, right in zip(shares, gold, strict=True)
    ]
    flat = [(label in right, row[label]) for row, right in zip(shares, gold, strict=True) for label in space.labels]
    fitted = fit(cases, biased=True)
    return {
        **scores(space, chosen, gold),
        "roc_auc": round(float(roc_auc_score(*zip(*flat, strict=True))), 4),
        "ece": round(fitted.before.ece, 4),
        "ece_calibrated": round(fitted.after.ece, 4),
        "log_likelihood": round(fitted.before.log_likelihood, 4),
        "log_likelihood_calibrated": round(fitted.after.log_likelihood, 4),
        "temperature": round(fitted.temperature, 3),
        "bias": round(fitted.bias, 3),
    }


def most_frequent(gold: Sequence[set[str]], labels: Sequence[str]) -> set[str]:
    """Return the labels that are right for more than half of the rows."""
    return {label for label in labels if 2 * sum(label in row for row in gold) > len(gold)}


def scores(space: SeveralLabels, chosen: Sequence[set[str]], gold: Sequence[set[str]]) -> dict[str, float]:
    """Return micro-F1, macro-F1, and the fraction of rows whose labels are all right."""
    pairs = [Pair(space.text_of(right), space.text_of(own)) for own, right in zip(chosen, gold, strict=True)]
    metrics = measure_labels(pairs, space).values()[1]
    return {name: round(metrics[name], 4) for name in ("micro_f1", "macro_f1", "exact")}


if __name__ == "__main__":
    main()
