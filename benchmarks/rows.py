"""Claim: every labelled row gets an answer of its own set, whatever the model is. Counts, and rows a second.

    python benchmarks/rows.py --data ../shared/data --output benchmarks/results/rows.json

Runs each task's `test.jsonl` once in fast mode and holds every answer against its row: it parses as one of the
row's answers, probabilities sum to 1 within 1e-6, extracted values are spans of their source, and the tokens of a
closed answer are the end of tokenize(prompt + text). The demo model answers at chance: what is measured is the
machinery.
"""

from __future__ import annotations

import json
import platform
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click

from ecellm_lite import Runtime, __version__, ggml
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.engine.llama import LlamaBackend, Settings, available_cores
from ecellm_lite.engine.scheduler import Request, Scheduler
from ecellm_lite.errors import EcellmError
from ecellm_lite.models.files import replacing
from ecellm_lite.models.store import Store
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.tasks.task import Task

AHEAD = 64


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"))
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/rows.json"))
@click.option("--limit", type=int, help="Rows a task.")
def main(data: Path, output: Path, limit: int | None) -> None:
    """Run the labelled rows and write the counts."""
    with Runtime("demo") as runtime:
        model = runtime.model
    backend = LlamaBackend(Store().get("demo").path, Settings())
    results = {}
    for task in TASKS.values():
        lines = (data / task.name / "test.jsonl").read_text("utf-8").splitlines()[:limit]
        results[task.name] = measure(backend, task, [json.loads(line) for line in lines])
        click.echo(f"{task.name:34} {json.dumps(results[task.name])}", err=True)
    facts = {
        "command": "python benchmarks/rows.py",
        "version": __version__,
        "machine": f"{platform.machine()}, {available_cores()} cores, {ggml.system_info().strip()}",
        "model": {"name": model.name, "sha256": model.sha256},
        "rows": sum(result["rows"] for result in results.values()),
        "problems": sum(sum(result["problems"].values()) for result in results.values()),
        "tasks": results,
    }
    with replacing(output) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")


def measure(backend: LlamaBackend, task: Task, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Answer the rows together and return the counts."""
    runtime = Runtime.over(backend)
    scheduler = Scheduler(backend)
    problems: Counter[str] = Counter()
    requests: list[Request] = []
    started = time.perf_counter()
    for row in rows:
        request = runtime.request(task.question(row))
        scheduler.submit(request)
        requests.append(request)
        while sum(not request.done for request in requests[-AHEAD:]) >= AHEAD:
            scheduler.step()
    while not all(request.done for request in requests[-2 * AHEAD :]):
        scheduler.step()
    seconds = time.perf_counter() - started
    for row, request in zip(rows, requests, strict=True):
        problems.update(check(runtime, backend, task, row, request))
    backend.clear()
    return {
        "rows": len(rows),
        "rows_per_second": round(len(rows) / seconds, 2),
        "tokens_computed": sum(len(r.prompt) - r.cached + r.decoded + r.forced for r in requests),
        "seconds": round(seconds, 1),
        "problems": dict(problems),
    }


def check(runtime: Runtime, backend: LlamaBackend, task: Task, row: dict[str, Any], request: Request) -> list[str]:
    """Return what is wrong with a row's answer, in a word each."""
    outcome, space = request.outcome, request.space
    if outcome is None:
        return [f"error: {request.error}"]
    found = []
    try:
        space.parse(outcome.text)
    except EcellmError:
        found.append("outside the set")
    if outcome.probabilities is not None and abs(sum(outcome.probabilities.values()) - 1) > 1e-6:
        found.append("probabilities do not sum to 1")
    if isinstance(space, Extraction):
        given = [entry for entry in outcome.value if entry["value"] is not None]
        found += [
            "value is not in its source"
            for entry in given
            if entry["value"] not in space.sources[entry["source"]].lower()
        ]
    if space.type != "text":
        whole = backend.vocabulary.tokenize(runtime.prompt(task, row) + outcome.text, begin=True)
        if whole != [*request.prompt, *outcome.tokens]:
            found.append("tokens are not the tokenizer's own")
    return found


if __name__ == "__main__":
    main()
