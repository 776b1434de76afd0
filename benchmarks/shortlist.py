"""Measures whether more answers are right if the prompt lists the labels that are most like the product's text.

    python -m benchmarks.shortlist [--labels taxonomy.txt --rows labelled.jsonl]

There are thousands of labels. BM25 finds those that the prompt lists; they are called the shortlist. Each product is
classified without a shortlist and with one, by the same model. By default, the labels are those of
benchmarks/labels.py. The products are made up, and a product's text has words of its label, so BM25 has an easy task.
Figures about real products need `--labels` and `--rows` (JSON Lines with `product` and `label`).
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.facts import write_results
from benchmarks.labels import label_task, made_up
from ecellm_lite import Runtime
from ecellm_lite.answers.answer import Answer
from ecellm_lite.tasks.label_files import SEPARATOR
from ecellm_lite.tasks.task import Task

BRANDS = ("Acme", "Norell", "Vista", "Halden", "Brightway", "Tern")
EXTRAS = (
    "set of 2",
    "black",
    "for home and office",
    "large",
    "heavy duty",
    "easy to clean",
    "10 inch",
    "new 2026 model",
)


@click.command()
@click.option("--labels", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rows", "labelled", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--products", type=click.IntRange(1), default=200, show_default=True)
@click.option("--shortlist", type=click.IntRange(1, 100), default=20, show_default=True)
@click.option("--model", default="demo", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/shortlist.json"))
def main(file: Path | None, labelled: Path | None, products: int, shortlist: int, model: str, output: Path) -> None:
    """Classify products with and without a shortlist in the prompt, and write how many are right."""
    labels = file.read_text("utf-8").splitlines() if file else made_up()
    lines = labelled.read_text("utf-8").splitlines() if labelled else []
    rows = [json.loads(line) for line in lines][:products] if labelled else made_up_products(labels, products)
    answers: dict[str, list[Answer]] = {}
    seconds = {}
    with Runtime(model) as runtime:
        for way, count in (("without", 0), ("with", shortlist)):
            with tempfile.TemporaryDirectory() as folder:
                task = label_task(Path(folder), "\n".join(labels), shortlist=count)
            list(runtime.answers(task, rows[:8]))
            started = time.perf_counter()
            answers[way] = list(runtime.answers(task, rows))
            seconds[way] = time.perf_counter() - started
    listed = [row["label"] in near(task, row) for row in rows]
    right = {
        way: [answer.text == row["label"] for answer, row in zip(answers[way], rows, strict=True)] for way in answers
    }
    pairs = list(zip(right["without"], right["with"], strict=True))
    figures = {
        "labels": len(labels),
        "products": len(rows),
        "made_up": labelled is None,
        "model": model,
        "shortlist": shortlist,
        "label_in_shortlist": round(sum(listed) / len(rows), 3),
        "right": {way: round(sum(each) / len(rows), 3) for way, each in right.items()},
        "top_level_right": {way: round(top_right(each, rows), 3) for way, each in answers.items()},
        "right_only_without": sum(before and not after for before, after in pairs),
        "right_only_with": sum(after and not before for before, after in pairs),
        "rows_per_second": {way: round(len(rows) / each, 2) for way, each in seconds.items()},
    }
    click.echo(json.dumps(figures, indent=2), err=True)
    write_results(output, "shortlist", figures)


def made_up_products(labels: Sequence[str], count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Return made-up products with their labels.

    A label is a path, such as `Toys > Puzzles`. A product's text has a brand, some words of its label in random order,
    and an extra such as "heavy duty". The words are all words of the path's last part, and one word of the
    part above it.
    """
    random_ = random.Random(seed)
    rows = []
    for label in random_.sample(list(labels), count):
        *above, name = label.split(SEPARATOR)
        words = [word for word in name.lower().split() if word != "&"]
        if above:
            words.append(random_.choice([word for word in above[-1].lower().split() if word != "&"]))
        random_.shuffle(words)
        title = f"{random_.choice(BRANDS)} {' '.join(words)}, {random_.choice(EXTRAS)}"
        rows.append({"product": title, "label": label})
    return rows


def near(task: Task, row: dict[str, Any]) -> list[str]:
    """Return the labels that the row's prompt lists."""
    options = task.question(row).options
    return list(json.loads(options)) if options else []


def top_right(answers: Sequence[Answer], rows: Sequence[dict[str, Any]]) -> float:
    """Return the fraction of answers with the right top category, such as `Toys` for the label `Toys > Puzzles`."""
    pairs = zip(answers, rows, strict=True)
    right = sum((answer.text or "").split(SEPARATOR)[0] == row["label"].split(SEPARATOR)[0] for answer, row in pairs)
    return float(right / len(rows))


if __name__ == "__main__":
    main()
