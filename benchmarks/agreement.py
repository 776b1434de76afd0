"""Claim: fast mode gives the same answers as deterministic mode, except where the two likeliest answers are close.

    python -m benchmarks.agreement --rows 60
    python -m benchmarks.agreement --kernels amx --output benchmarks/results/agreement_amx.json

Labelled rows are answered in both modes. Tasks that write text are left out. Batching changes the last bits of
llama.cpp's logits. So the modes may choose different answers if two answers are about equally likely. For each row with
different answers, the results list the two largest probabilities in each mode.

With `--kernels`, fast mode with a variant of the prompt kernels is compared with fast mode without them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite import Answer, Runtime
from ecellm_lite.tasks.registry import get_task

SCORED = ("PRP", "PM", "SA", "SR", "MPC", "PSI", "AP")


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--rows", type=click.IntRange(1), default=60, show_default=True, help="Of each task.")
@click.option("--model", default="demo", show_default=True)
@click.option("--kernels", default="", help="A variant of the prompt kernels.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/agreement.json"))
def main(data: Path, rows: int, model: str, kernels: str, output: Path) -> None:
    """Answer each row twice, and write how often the two answers agree.

    The two are the fast and the deterministic mode, or, with --kernels, a variant of the prompt kernels and none.
    """
    tasks: dict[str, Any] = {}
    names = (kernels, "off") if kernels else ("fast", "deterministic")
    usual: list[dict[str, Any]] = [{}, {"deterministic": True}]
    one, other = [{"prompt_kernels": name} for name in names] if kernels else usual
    with Runtime(model, **one) as first, Runtime(model, **other) as second:
        for task in map(get_task, SCORED):
            lines = (data / task.name / "test.jsonl").read_text("utf-8").splitlines()[:rows]
            labelled = [json.loads(line) for line in lines]
            pairs = list(zip(first.answers(task, labelled), second.answers(task, labelled), strict=True))
            tasks[task.name] = compared(pairs, names)
            click.echo(f"{task.name:34} {json.dumps(tasks[task.name])}", err=True)
    compared_rows = sum(task["rows"] for task in tasks.values())
    agreeing = sum(task["agreeing"] for task in tasks.values())
    write_results(
        output,
        "agreement",
        {"rows": compared_rows, "agreeing": agreeing, "share": round(agreeing / compared_rows, 4), "tasks": tasks},
    )


def compared(pairs: list[tuple[Answer, Answer]], names: tuple[str, str]) -> dict[str, Any]:
    """Return how many answers agree, the largest difference in probability, and the rows whose answers differ.

    `names`: the result's keys for the first and the second answer of a row.
    """
    differences = [
        abs((one.probabilities or {})[key] - (other.probabilities or {})[key])
        for one, other in pairs
        for key in one.probabilities or {}
    ]
    apart = [
        {"id": one.id, names[0]: two_best(one), names[1]: two_best(other)}
        for one, other in pairs
        if one.value != other.value
    ]
    return {
        "rows": len(pairs),
        "agreeing": len(pairs) - len(apart),
        "largest_difference": round(max(differences), 4),
        "apart": apart,
    }


def two_best(answer: Answer) -> dict[str, float]:
    """Return the two most likely answers with their probabilities."""
    best = sorted((answer.probabilities or {}).items(), key=lambda pair: -pair[1])[:2]
    return {key: round(share, 4) for key, share in best}


if __name__ == "__main__":
    main()
