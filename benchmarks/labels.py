"""Claim: choosing one of 5,595 category paths takes at most three more calls of the model than the paths have levels.

    python -m benchmarks.labels [--labels taxonomy.txt]

The labels are made up, in the shape of Google's product taxonomy: 5,595 paths with up to 7 levels, and 21 categories at
the top. `--labels` reads them from a file instead. Products are titles of labelled rows. Each product is classified in
two ways, in turns: by the search of answers/label_search.py, and by the same engine under a JSON schema with the labels
as an enum (llguidance).
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median

import click
from llguidance import LLMatcher

from benchmarks.facts import write_results
from ecellm_lite import Runtime, load_task
from ecellm_lite.answers.decoding import Scene
from ecellm_lite.answers.label_matrix import forget, label_matrix
from ecellm_lite.answers.label_set import LabelSet
from ecellm_lite.answers.structured import JsonText
from ecellm_lite.loading import load_model
from ecellm_lite.tasks.label_files import SEPARATOR
from ecellm_lite.tasks.task import Task

# How many paths there are of each level: about those of Google's taxonomy.
LEVELS = (21, 192, 1349, 2203, 1388, 387, 55)

WORDS = """garden kitchen outdoor baby camera travel office pet winter paper metal wooden glass solar wall floor hair
skin bath water tea coffee bread fruit fish cat dog bird horse car bike boat tent shoe boot hat coat shirt belt ring
watch phone tablet screen printer lamp clock mirror table chair bed desk shelf carpet pillow towel soap brush comb tooth
knee drill saw hammer screw paint rope lock key door window roof gate stone seed flower tree puzzle doll train"""
LONGEST_ANSWER = 200  # tokens
KINDS = "accessories supplies parts covers sets tools kits stands holders cleaners bags boxes cases filters racks"


@click.command()
@click.option("--labels", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--products", type=click.IntRange(1), default=200, show_default=True)
@click.option("--enum-products", type=click.IntRange(1), default=20, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--model", default="demo", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/labels.json"))
def main(
    file: Path | None, data: Path, products: int, enum_products: int, repeats: int, model: str, output: Path
) -> None:
    """Classify products in both ways and write the rates."""
    rows = [{"product": title} for title in titles(data, products)]
    with tempfile.TemporaryDirectory() as folder, Runtime(model) as runtime:
        task = label_task(Path(folder), file.read_text("utf-8") if file else "\n".join(made_up()))
        space = task.question(rows[0]).space
        assert isinstance(space, LabelSet)
        enum = enum_space(space.labels.texts)
        tokenized, loaded = preparation(model, space)
        list(runtime.answers(task, rows[:8]))
        list(runtime.answers(task, rows[:2], space=enum))
        rates: dict[str, list[float]] = {"search": [], "enum": []}
        for _ in range(repeats):
            started = time.perf_counter()
            answers = list(runtime.answers(task, rows))
            rates["search"].append(len(rows) / (time.perf_counter() - started))
            started = time.perf_counter()
            enumerated = list(runtime.answers(task, rows[:enum_products], space=enum))
            rates["enum"].append(enum_products / (time.perf_counter() - started))
        calls = calls_alone(runtime, task, rows)
    depth = max(text.count(SEPARATOR) + 1 for text in space.labels.texts)
    outside = sum(answer.text not in space.labels.by_text for answer in answers)
    figures = {
        "labels": len(space.labels.keys),
        "depth": depth,
        "products": len(rows),
        "outside": outside,
        "rows_per_second": {way: round(median(each), 2) for way, each in rates.items()},
        "ratio": round(median(rates["search"]) / median(rates["enum"]), 2),
        "calls_alone": {"mean": round(mean(calls), 2), "most": max(calls)},
        "seconds_to_prepare": round(tokenized, 3),
        "milliseconds_to_load": round(1000 * loaded, 1),
        "unexplored": round(mean(answer.unexplored or 0.0 for answer in answers), 4),
        "same_as_enum": sum(
            answer.text == json.loads(other.text or '""') for answer, other in zip(answers, enumerated, strict=False)
        ),
        "enum_products": enum_products,
    }
    click.echo(json.dumps(figures, indent=2), err=True)
    write_results(output, "labels", figures)
    if outside:
        raise SystemExit("An answer was no label.")


def enum_space(texts: Sequence[str]) -> JsonText:
    """Return the space of a JSON schema's enum, without this project's limit on a schema's size."""
    definition = {"enum": list(texts)}
    compiled = LLMatcher.grammar_from_json_schema(json.dumps(definition), defaults={"whitespace_flexible": False})
    return JsonText(compiled, LONGEST_ANSWER, 0.0, definition)


def label_task(folder: Path, labels: str, *, shortlist: int = 0) -> Task:
    """Return a task that assigns a product to one of the `labels`, which has one label on each line.

    `shortlist` is the number of labels in the prompt.
    """
    (folder / "labels.txt").write_text(labels, "utf-8")
    path = folder / "taxonomy.toml"
    path.write_text(
        'name = "taxonomy"\nsummary = "A product\'s place in a taxonomy."\n'
        'instruction = "Write the category of the product in the shop\'s taxonomy."\n'
        '[[fields]]\nname = "product"\n[answer]\ntype = "choice"\n'
        f'labels = {{ file = "labels.txt", shortlist = {shortlist} }}\n',
        "utf-8",
    )
    return load_task(path)


def made_up(seed: int = 1) -> list[str]:
    """Return 5,595 paths in the shape of Google's taxonomy; the same for the same seed."""
    random_ = random.Random(seed)
    words, kinds = WORDS.split(), KINDS.split()
    above: list[str] = [""]
    paths: list[str] = []
    for count in LEVELS:
        level: set[str] = set()
        while len(level) < count:
            name = [random_.choice(words), random_.choice(kinds)]
            if random_.random() < 0.3:
                name += ["&", random_.choice(kinds)]
            parent = random_.choice(above)
            level.add(SEPARATOR.join(filter(None, (parent, " ".join(name).title()))))
        above = sorted(level)
        paths += above
    return sorted(paths)


def titles(data: Path, count: int) -> list[str]:
    """Return product titles of labelled rows, all different."""
    file = data / "attribute_value_extraction" / "test.jsonl"
    rows = map(json.loads, file.read_text("utf-8").splitlines())
    return list(dict.fromkeys(row["input"]["title"] for row in rows))[:count]


def preparation(model: str, space: LabelSet) -> tuple[float, float]:
    """Return the seconds to tokenize the labels, and the seconds to read the finished matrix from its file."""
    backend = load_model(model, envelope=None, prefix_files=False).backend
    scene = Scene(backend.vocabulary, backend.max_length)
    seconds = []
    for _ in range(2):
        forget(backend.vocabulary)
        started = time.perf_counter()
        label_matrix(space.labels.digest, space.labels.texts, scene)
        seconds.append(time.perf_counter() - started)
    backend.close()
    return seconds[0], seconds[1]


def calls_alone(runtime: Runtime, task: Task, rows: Sequence[Mapping[str, str]]) -> list[int]:
    """Return how many calls of the model each product takes if it runs alone, including the call for its prompt."""
    calls = []
    for row in rows:
        before = runtime.progress()[1]
        runtime.answer(task, row)
        calls.append(runtime.progress()[1] - before)
    return calls


if __name__ == "__main__":
    main()
