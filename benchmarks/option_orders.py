"""Measures the gain and the cost of asking each question several times, with its choices in different orders.

    python -m benchmarks.option_orders --task SA              # likewise PRP and MPC, into the same file
    python -m benchmarks.option_orders --task SA --shuffled

The demo answers labelled test rows of a task as questions, as in `/v1/decisions`. Each question is about a row's text,
and its choices are the task's options, in the order used in training. With --shuffled, each row has a random order of
its own. Each question is asked with its choices in 1, 2 and 4 orders (`option_orders`), and the probabilities are
averaged. The results have the accuracy, the log loss of the right choice (in nats), and the seconds per row. All rows
are submitted at once, so the seconds per row are the total time divided by the number of rows.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite import Runtime
from ecellm_lite.answers.options import OneOf
from ecellm_lite.evaluate.labelled_files import gather, labelled_files
from ecellm_lite.serve.questions import Question
from ecellm_lite.tasks.questions import question_task
from ecellm_lite.tasks.registry import get_task

ORDERS = (1, 2, 4)
_ASKED = {
    "sentiment_analysis": "Which sentiment does the review express?",
    "product_relation_prediction": "How are the two products related?",
    "multiclass_product_classification": "How relevant is the product to the query?",
}


@click.command()
@click.option("--task", "name", required=True, help="SA, PRP or MPC.")
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"))
@click.option("--orders", multiple=True, type=int, default=ORDERS, show_default=True)
@click.option("--rows", type=int, default=200, show_default=True)
@click.option("--shuffled", is_flag=True, help="Offer each row's choices in a random order.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/option_orders.json"))
def main(name: str, data: Path, orders: Sequence[int], rows: int, shuffled: bool, output: Path) -> None:
    """Measure one task with 1, 2 and 4 orders of its options, and add the figures to the results."""
    task = get_task(name)
    gathered = gather(labelled_files(data, [task]), [task], limit=rows).rows[task.name]
    states, choices, gold = [], [], []
    for row in gathered:
        space = row.space
        assert isinstance(space, OneOf)
        offered = {option.key: (option.line or option.text).partition(": ")[2] for option in space.offered}
        values = list(offered.values())
        if shuffled:
            random.Random(row.line).shuffle(values)  # the same order each time
        choices.append(values)
        gold.append(offered[str(space.parse(row.gold))])
        fields = row.row.get("input", row.row)
        states.append("\n".join(f"{field.name.replace('_', ' ')}: {fields[field.name]}" for field in task.fields))
    with Runtime("demo") as runtime:
        _ask(runtime, states[:8], choices[:8], _ASKED[task.name], 1)
        tasks = json.loads(output.read_text("utf-8"))["tasks"] if output.exists() else {}
        measures = tasks.setdefault(task.name, {}).setdefault("shuffled" if shuffled else "trained", {})
        for count in orders:
            started = time.perf_counter()
            shares = _ask(runtime, states, choices, _ASKED[task.name], count)
            seconds = (time.perf_counter() - started) / len(states)
            measures[str(count)] = _measured(shares, gold) | {
                "rows": len(states),
                "seconds_per_row": round(seconds, 4),
            }
            click.echo(f"{task.abbreviation}, {count}: {measures[str(count)]}", err=True)
    write_results(output, "option_orders", {"tasks": tasks})


def _ask(
    runtime: Runtime, states: Sequence[str], choices: Sequence[Sequence[str]], instructions: str, orders: int
) -> list[Mapping[str, float]]:
    """Ask a question about each row, with the row's choices in several orders.

    `states`: the rows' texts. `choices`: the choices of each row. `instructions`: the question.
    `orders`: the number of orders.

    Return, for each row, each choice's mean probability over these orders.
    """
    futures = []
    for state, values in zip(states, choices, strict=True):
        offered = [{"value": value} for value in values]
        question = Question({"type": "choice", "instructions": instructions, "choices": offered})
        tasks = [question_task(definition) for definition, _ in question.in_orders(orders)]
        futures.append([runtime.submit(task, {"state": state}) for task in tasks])
    means: list[Mapping[str, float]] = []
    for values, row in zip(choices, futures, strict=True):
        shares = [future.result().probabilities or {} for future in row]
        means.append({value: fmean(one[value] for one in shares) for value in values})
    return means


def _measured(shares: Sequence[Mapping[str, float]], gold: Sequence[str]) -> dict[str, Any]:
    right = [max(row, key=row.__getitem__) == answer for row, answer in zip(shares, gold, strict=True)]
    losses = [-math.log(row[answer]) for row, answer in zip(shares, gold, strict=True)]
    return {"accuracy": round(fmean(right), 4), "log_loss": round(fmean(losses), 4)}


if __name__ == "__main__":
    main()
