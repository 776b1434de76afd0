"""Claim: every labelled row gets one of its allowed answers, in the rows' order.

    python benchmarks/rows.py --data ../shared/data --output benchmarks/results/rows.json

Each task's `test.jsonl` is run once in fast mode, and every answer is checked against its row:

- it has the row's id and position;
- it is one of the row's allowed answers;
- its probabilities sum to 1 within 1e-6;
- extracted values occur in their source;
- prompt and answer, tokenized as one text, give the tokens that the model read and wrote. Free text is exempt.

Problems are counted. Whether an answer is right is not checked here.
"""

from __future__ import annotations

import json
import platform
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click

from ecellm_lite import Answer, Runtime, __version__, ggml
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.space import Space
from ecellm_lite.engine.request import Request
from ecellm_lite.engine.settings import available_cores
from ecellm_lite.errors import EcellmError
from ecellm_lite.models.files import replacing
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.tasks.task import Question, Task


class Recording(Runtime):
    """A Runtime that keeps its requests to the engine, so that each answer's tokens can be looked up afterwards."""

    requests: list[Request]

    def request(self, question: Question, space: Space | None = None, *, seed: int = 0) -> Request:
        """Make a request as Runtime does, and add it to `requests`."""
        self.requests.append(super().request(question, space, seed=seed))
        return self.requests[-1]


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"))
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/rows.json"))
@click.option("--limit", type=int, help="Rows per task.")
def main(data: Path, output: Path, limit: int | None) -> None:
    """Answer the labelled rows, check the answers, and write the counts."""
    results = {}
    with Recording("demo") as runtime:
        for task in TASKS.values():
            lines = (data / task.name / "test.jsonl").read_text("utf-8").splitlines()[:limit]
            results[task.name] = measure(runtime, task, [json.loads(line) for line in lines])
            click.echo(f"{task.name:34} {json.dumps(results[task.name])}", err=True)
    facts = {
        "command": "python benchmarks/rows.py",
        "version": __version__,
        "machine": f"{platform.machine()}, {available_cores()} cores, {ggml.system_info().strip()}",
        "model": {"name": runtime.model.name, "sha256": runtime.model.sha256},
        "rows": sum(result["rows"] for result in results.values()),
        "problems": sum(sum(result["problems"].values()) for result in results.values()),
        "tasks": results,
    }
    with replacing(output) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")


def measure(runtime: Recording, task: Task, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Answer a task's rows as one job, and return the counts of answers and problems."""
    runtime.requests = []
    started = time.perf_counter()
    answers = list(runtime.answers(task, rows))
    seconds = time.perf_counter() - started
    requests = runtime.requests
    problems: Counter[str] = Counter({"lines": abs(len(answers) - len(rows))})
    for row, answer, request in zip(rows, answers, requests, strict=True):
        problems.update(check(answer, row, request, tokens_of(runtime, task, row, answer)))
    return {
        "rows": len(rows),
        "rows_per_second": round(len(rows) / seconds, 2),
        "tokens_computed": sum(len(r.prompt) - r.cached + r.decoded + r.forced for r in requests),
        "seconds": round(seconds, 1),
        "problems": dict(+problems),
    }


def tokens_of(runtime: Runtime, task: Task, row: dict[str, Any], answer: Answer) -> list[int]:
    """Tokenize the prompt and the answer's text together, as one text."""
    return runtime.tokenize(runtime.prompt(task, row) + (answer.text or ""))


def check(answer: Answer, row: dict[str, Any], request: Request, tokens: list[int]) -> list[str]:
    """Return the problems of a row's answer, each as a short text.

    `tokens`: the tokens of the prompt and the answer's text, tokenized together.
    """
    if answer.error or request.outcome is None:
        return [f"error: {answer.error}"]
    space, problems = request.space, []
    if answer.id != row["id"]:
        problems.append("out of place")
    try:
        space.parse(answer.text or "")
    except EcellmError:
        problems.append("outside the set")
    if answer.probabilities is not None and abs(sum(answer.probabilities.values()) - 1) > 1e-6:
        problems.append("probabilities do not sum to 1")
    if isinstance(space, Extraction):
        problems += [
            "value is not in its source"
            for entry in answer.value
            if entry["value"] is not None and entry["value"] not in space.sources[entry["source"]].lower()
        ]
    if space.type != "text" and tokens != [*request.prompt, *request.outcome.tokens]:
        problems.append("tokens are not the tokenizer's own")
    return problems


if __name__ == "__main__":
    main()
