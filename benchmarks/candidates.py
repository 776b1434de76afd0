"""Claim: our Runtime compares a product with 20 others three times as fast as llama-server with 8 slots.

    python -m benchmarks.candidates --llama-server build/bin/llama-server

A shop adds a product to its catalogue and wants to know whether the catalogue already has this product. So it compares
the product with 20 candidates from the catalogue. Each comparison is a row of product matching, which begins with the
new product. The products and the candidates are from labelled rows.

Four programs answer each product's rows, one after the other:

- our Runtime, as one job;
- `ecellm-lite serve`, in one request;
- llama.cpp's server with its prompt cache, 8 slots and 8 clients;
- llama.cpp's server with one slot.

All programs use the same model file, prompts and number of threads. llama-server gets a grammar that allows only "yes"
and "no". Before the clock starts, each program answers the rows of another product, so that the instruction is in its
memory. The result is each program's median rate over the products.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.facts import write_results
from benchmarks.load import serving
from benchmarks.peers.grammar import gbnf
from benchmarks.peers.llama_server import SLOTS, LlamaServer
from benchmarks.peers.ours import Ours
from benchmarks.peers.peer import PreparedRow
from benchmarks.questions import post
from ecellm_lite.demo.build import ensure_demo
from ecellm_lite.engine.settings import available_cores
from ecellm_lite.envelopes import Envelope, get_envelope
from ecellm_lite.models.resolve import resolve
from ecellm_lite.models.store import Store
from ecellm_lite.tasks.registry import get_task

TASK = "product_matching"
OURS, SERVED, SLOTTED, ONE_SLOT = (
    "ecellm-lite",
    "ecellm-lite serve",
    f"llama-server with {SLOTS} slots",
    "llama-server with one slot",
)


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--products", type=click.IntRange(1), default=10, show_default=True)
@click.option("--candidates", type=click.IntRange(1), default=20, show_default=True)
@click.option("--model", default="demo", show_default=True)
@click.option("--llama-server", "program", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/candidates.json"))
def main(data: Path, products: int, candidates: int, model: str, program: Path, output: Path) -> None:
    """Measure how fast our Runtime, our server and llama.cpp's server answer the rows, and write the rates."""
    resolved = resolve(model, Store(), {"demo": ensure_demo})
    envelope = get_envelope(resolved.manifest.envelope)
    first, *others = compared(data, products + 1, candidates, envelope)
    cores = available_cores()
    rates: dict[str, list[float]] = {}
    computed: list[int] = []
    with ExitStack() as stack:
        ours = Ours(resolved.path, envelope.name, cores, None)
        stack.callback(ours.close)
        port, _ = stack.enter_context(serving(model, "--threads", str(cores)))
        slotted = LlamaServer(program, resolved.path, cores)
        stack.callback(slotted.close)
        one = LlamaServer(program, resolved.path, cores, slots=1)
        stack.callback(one.close)
        ways: Mapping[str, Callable[[Sequence[PreparedRow]], None]] = {
            OURS: lambda rows: computed.append(ours.run(TASK, rows).computed or 0),
            SERVED: lambda rows: ask(port, rows),
            SLOTTED: lambda rows: answered(slotted, rows),
            ONE_SLOT: lambda rows: answered(one, rows),
        }
        for way in ways.values():
            way(first)
        computed.clear()
        for turn, rows in enumerate(others):
            names = list(ways)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                started = time.perf_counter()
                ways[name](rows)
                rates.setdefault(name, []).append(round(len(rows) / (time.perf_counter() - started), 3))
                click.echo(f"{turn + 1}/{len(others)} {name}: {rates[name][-1]:.2f} rows/s", err=True)
    medians = {name: median(each) for name, each in rates.items()}
    facts = {
        "model": model,
        "products": products,
        "candidates": candidates,
        "tokens_computed_a_row": round(sum(computed) / products / candidates, 1),
        "rows_per_second": {name: round(rate, 3) for name, rate in medians.items()},
        "each_product": rates,
        "times": {name: round(medians[OURS] / medians[name], 2) for name in (SLOTTED, ONE_SLOT)},
    }
    write_results(output, "candidates", facts)
    click.echo(json.dumps(facts, indent=2))


def compared(data: Path, products: int, candidates: int, envelope: Envelope) -> list[list[PreparedRow]]:
    """Return one list of rows for each product. The rows compare the product with `candidates` other products.

    For example, product 5 is `product_1` of labelled row 5. Its candidates are `product_2` of row 5 and of the rows
    after it.
    """
    lines = (data / TASK / "test.jsonl").read_text("utf-8").splitlines()
    inputs = [json.loads(line)["input"] for line in lines]
    task = get_task(TASK)

    def prepared(row: dict[str, Any]) -> PreparedRow:
        question = task.question(row)
        prompt = envelope.prompt(question.instruction, question.text, question.options)
        return PreparedRow(row, prompt, gbnf(question.space))

    return [
        [
            prepared({"product_1": inputs[n]["product_1"], "product_2": other["product_2"]})
            for other in (inputs * 2)[n : n + candidates]
        ]
        for n in range(products)
    ]


def ask(port: int, rows: Sequence[PreparedRow]) -> None:
    """Send all rows to our server in one request, and wait for the answers."""
    answers = post(port, f"/v1/tasks/{TASK}", {"rows": [one.row for one in rows]})["answers"]
    if any(answer["error"] for answer in answers):
        raise click.ClickException("Our server failed to answer a row.")


def answered(server: LlamaServer, rows: Sequence[PreparedRow]) -> None:
    """Send the rows to llama-server, and wait for the answers."""
    if server.run(TASK, rows).failures:
        raise click.ClickException("llama-server failed to answer a row.")


if __name__ == "__main__":
    main()
