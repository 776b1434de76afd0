"""Claim: to choose one of 5,595 category paths with up to 7 levels, the model is called at most 7 + 3 times.

    python -m benchmarks.labels [--labels taxonomy.txt]

One call is made for each of the 7 levels. The other 3 calls are for the search's detours to other labels.

The labels are made up, in the shape of Google's product taxonomy: 5,595 paths with up to 7 levels, and 21 categories at
the top. `--labels` reads them from a file instead. Products are titles of labelled rows. The products are classified in
several ways, alternately:

- search: by the search of answers/label_search.py, for the five likeliest labels.
- best: by the same search, for the likeliest label only. The enums below give only one label, too.
- enum: by the same engine, with the labels as the enum of a JSON schema (llguidance).
- Llama: by llama-cpp-python's `Llama` with the same enum (llguidance).
- guidance: by the package guidance with the same enum, if it is installed.
- prompts: a choice of only two labels. The model only reads the title, and writes nothing. This is the upper limit for
  the speed of our engine.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median
from typing import Any, TypeAlias

import click
from llguidance import LLMatcher

from benchmarks.facts import write_results
from benchmarks.peers.guidance_enum import GuidanceEnum
from benchmarks.peers.llama_enum import LlamaEnum, WrittenLabel
from ecellm_lite import Answer, Runtime, load_task
from ecellm_lite.answers.decoding import Scene
from ecellm_lite.answers.label_matrix import forget, label_matrix
from ecellm_lite.answers.label_set import Labels, LabelSet
from ecellm_lite.answers.structured import JsonText
from ecellm_lite.demo.build import ensure_demo
from ecellm_lite.engine.settings import available_cores
from ecellm_lite.loading import load_model
from ecellm_lite.models.resolve import resolve
from ecellm_lite.models.store import Store
from ecellm_lite.tasks.label_files import SEPARATOR
from ecellm_lite.tasks.task import Task

# How many paths there are of each level: about those of Google's taxonomy.
LEVELS = (21, 192, 1349, 2203, 1388, 387, 55)

WORDS = """garden kitchen outdoor baby camera travel office pet winter paper metal wooden glass solar wall floor hair
skin bath water tea coffee bread fruit fish cat dog bird horse car bike boat tent shoe boot hat coat shirt belt ring
watch phone tablet screen printer lamp clock mirror table chair bed desk shelf carpet pillow towel soap brush comb tooth
knee drill saw hammer screw paint rope lock key door window roof gate stone seed flower tree puzzle doll train"""
LONGEST_ANSWER = 200  # tokens
WARM_ROWS = 8
KINDS = "accessories supplies parts covers sets tools kits stands holders cleaners bags boxes cases filters racks"


SEARCH, BEST, ENUM, LLAMA, GUIDANCE, PROMPTS = "search", "best", "enum", "Llama", "guidance", "prompts"


# Returns the answers to rows: an Answer, or what a peer returns.
Way: TypeAlias = Callable[[Sequence[Mapping[str, str]]], list[Any]]


@click.command()
@click.option("--labels", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--products", type=click.IntRange(1), default=200, show_default=True)
@click.option("--enum-products", type=click.IntRange(1), default=20, show_default=True, help="For Llama and guidance.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--model", default="demo", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/labels.json"))
def main(
    file: Path | None, data: Path, products: int, enum_products: int, repeats: int, model: str, output: Path
) -> None:
    """Classify products by a search, by a schema's enum and by other programs, and write the rates."""
    rows = [{"product": title} for title in titles(data, products)]
    few = rows[:enum_products]
    path, threads = resolve(model, Store(), {"demo": ensure_demo}).path, available_cores()
    with tempfile.TemporaryDirectory() as folder, Runtime(model) as runtime:
        task = label_task(Path(folder), file.read_text("utf-8") if file else "\n".join(made_up()))
        space = task.question(rows[0]).space
        assert isinstance(space, LabelSet)
        best, enum = LabelSet(space.labels, best=1), enum_space(space.labels.texts)
        either = LabelSet(Labels(("1", "2"), ("A", "B")))
        tokenized, loaded = preparation(model, space)
        llama = LlamaEnum(path, enum.compiled, threads)
        ways: dict[str, Way] = {
            SEARCH: lambda rows: list(runtime.answers(task, rows)),
            BEST: lambda rows: list(runtime.answers(task, rows, space=best)),
            ENUM: lambda rows: list(runtime.answers(task, rows, space=enum)),
            LLAMA: lambda rows: [llama.answer(runtime.request(task.question(row)).prompt) for row in rows],
        }
        if find_spec("guidance"):
            guidance = GuidanceEnum(path, space.labels.texts, threads)
            ways[GUIDANCE] = lambda rows: [guidance.answer(runtime.prompt(task, row)) for row in rows]
        ways[PROMPTS] = lambda rows: list(runtime.answers(task, rows, space=either))
        answers, rates = measured(ways, {LLAMA: few, GUIDANCE: few}, rows, repeats)
        calls = calls_alone(runtime, task, rows)
        llama.close()
    depth = max(text.count(SEPARATOR) + 1 for text in space.labels.texts)
    outside = sum(answer.text not in space.labels.by_text for answer in answers[SEARCH])
    chosen = {way: list(map(label_of, each)) for way, each in answers.items() if way != PROMPTS}
    figures = {
        "labels": len(space.labels.keys),
        "depth": depth,
        "products": len(rows),
        "outside": outside,
        "rows_per_second": {way: round(median(each), 2) for way, each in rates.items()},
        "each_repeat": {way: [round(rate, 2) for rate in each] for way, each in rates.items()},
        "ratios": {
            way: {other: round(median(rates[way]) / median(each), 2) for other, each in rates.items() if other != way}
            for way in (SEARCH, BEST)
        },
        "tokens_a_row": {
            "prompt": round(mean(map(prompt_tokens, answers[SEARCH])), 1),
            **{way: round(mean(map(answer_tokens, answers[way])), 1) for way in (SEARCH, BEST, ENUM)},
            LLAMA: round(mean(label.tokens for label in answers[LLAMA]), 1),
        },
        "calls_alone": {"mean": round(mean(calls), 2), "most": max(calls)},
        "seconds_to_prepare": round(tokenized, 3),
        "milliseconds_to_load": round(1000 * loaded, 1),
        "unexplored": round(mean(answer.unexplored or 0.0 for answer in answers[SEARCH]), 4),
        "same_labels": {
            f"{SEARCH}, {BEST}": same(chosen[SEARCH], chosen[BEST]),
            **{f"{ENUM}, {way}": same(chosen[ENUM], chosen[way]) for way in chosen if way != ENUM},
        },
        "enum_products": enum_products,
    }
    click.echo(json.dumps(figures, indent=2), err=True)
    write_results(output, "labels", figures)
    if outside:
        raise SystemExit("An answer was no label.")


def measured(
    ways: Mapping[str, Way],
    fewer: Mapping[str, Sequence[Mapping[str, str]]],
    rows: Sequence[Mapping[str, str]],
    repeats: int,
) -> tuple[dict[str, list[Any]], dict[str, list[float]]]:
    """Answer the rows in several ways. Return the answers of the last repeat, and the rows per second of every repeat.

    Both results are dicts with a key for each way. `fewer`: for each slow way, the rows that it answers instead of
    `rows`.
    """
    for answer in ways.values():
        answer(rows[-WARM_ROWS:])
    answers: dict[str, list[Any]] = {}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, answer in ways.items():
            started = time.perf_counter()
            answers[way] = answer(fewer.get(way, rows))
            rates[way].append(len(answers[way]) / (time.perf_counter() - started))
    return answers, rates


def label_of(answer: Answer | WrittenLabel | str) -> str:
    """Return the text of the chosen label. The type of `answer` depends on the way of classifying."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, Answer) and answer.type == JsonText.type:
        return str(answer.value)
    return answer.text or ""


def same(ones: Sequence[str], others: Sequence[str]) -> int:
    """Return at how many positions both lists have the same label.

    If one list is shorter, only the beginning of the other counts.
    """
    return sum(one == other for one, other in zip(ones, others, strict=False))


def prompt_tokens(answer: Answer) -> int:
    """Return how many prompt tokens were computed for a row. Tokens that were in memory already do not count."""
    assert answer.usage
    return answer.usage.prompt_tokens - (answer.usage.cached_tokens or 0)


def answer_tokens(answer: Answer) -> int:
    """Return how many tokens after the prompt were computed for a row."""
    assert answer.usage
    return answer.usage.decoded_tokens + answer.usage.forced_tokens


def enum_space(texts: Sequence[str]) -> JsonText:
    """Return the answer space of a JSON schema whose enum is `texts`.

    This project's limit on a schema's size is ignored.
    """
    definition = {"enum": list(texts)}
    compiled = LLMatcher.grammar_from_json_schema(json.dumps(definition), defaults={"whitespace_flexible": False})
    return JsonText(compiled, LONGEST_ANSWER, 0.0, definition)


def label_task(folder: Path, labels: str, *, shortlist: int = 0) -> Task:
    """Return a task that assigns a product to one of several labels. `labels` is a text with one label per line.

    `shortlist`: how many of the labels the prompt lists.
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
    """Return 5,595 made-up category paths in the shape of Google's taxonomy. They are the same in every run."""
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
    """Return different product titles from labelled rows."""
    file = data / "attribute_value_extraction" / "test.jsonl"
    rows = map(json.loads, file.read_text("utf-8").splitlines())
    return list(dict.fromkeys(row["input"]["title"] for row in rows))[:count]


def preparation(model: str, space: LabelSet) -> tuple[float, float]:
    """Return the seconds to tokenize the labels, and the seconds to load the resulting token matrix from its file."""
    backend = load_model(model, envelope=None, prefix_files=False).backend
    scene = Scene(backend.vocabulary, backend.max_length)
    seconds = []
    for lasting in (False, True, True):  # not read from a file, then written to a file if there is none, then read
        forget(backend.vocabulary)
        started = time.perf_counter()
        label_matrix(space.labels.digest, space.labels.texts, scene, lasting=lasting)
        seconds.append(time.perf_counter() - started)
    backend.close()
    return seconds[0], seconds[2]


def calls_alone(runtime: Runtime, task: Task, rows: Sequence[Mapping[str, str]]) -> list[int]:
    """Classify the products one by one.

    Return how many model calls each product took, including the call for its prompt.
    """
    calls = []
    for row in rows:
        before = runtime.progress()[1]
        runtime.answer(task, row)
        calls.append(runtime.progress()[1] - before)
    return calls


if __name__ == "__main__":
    main()
