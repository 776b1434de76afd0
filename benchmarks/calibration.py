"""Claim: without any calibration by the user, about 80% of the demo's answers with probability 0.8 are right.

    ecellm-lite eval --task all --data ../shared/data --model demo --output demo.json
    ecellm-lite eval --task all --data ../shared/data/more --model demo --output more.json
    python -m benchmarks.calibration demo.json --others more.json

The evaluations must run in a store in which the demo was not calibrated (ECELLM_HOME=$(mktemp -d)). For each task, the
results have:

- the expected calibration error over 10 bins and the Brier score, on test rows from the demo's training sources;
- with --others, the same two figures on rows from other sources;
- the values of the calibration that is shipped with the demo, such as its temperature. For some tasks, no calibration
  is shipped.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite.demo.calibrations import MODEL_SHA256, SHIPPED
from ecellm_lite.evaluate.results import TaskResult, read_results
from ecellm_lite.models.calibrations import Calibration, read_calibration

MOST_ECE, LEAST_ROWS = 0.08, 300  # the claim, for tasks with at least this many test rows


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--others", type=click.Path(exists=True, path_type=Path), help="Results on rows of other sources.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/calibration.json"))
def main(results: tuple[Path, ...], others: Path | None, output: Path) -> None:
    """Collect the calibration errors of the evaluations, and write them."""
    other = read_results(others).tasks if others else {}
    tasks = {}
    for path in results:
        evaluation = read_results(path)
        if evaluation.model.sha256 != MODEL_SHA256:
            raise SystemExit(f"The demo's calibrations are for another model than that of {path}.")
        for name, result in evaluation.tasks.items():
            calibration = read_calibration(SHIPPED / f"{name}.json")
            if result.calibration != (calibration and calibration.name):
                raise SystemExit(
                    f"{name} was answered with {result.calibration}, which is not the shipped calibration."
                )
            tasks[name] = {"test": _measured(result), "fitted": calibration and _fitted(calibration)}
            if name in other:
                tasks[name]["other_sources"] = _measured(other[name])
            click.echo(f"{result.abbreviation}: {tasks[name]}", err=True)
    large = [task["test"] for task in tasks.values() if task["test"] and task["test"]["rows"] >= LEAST_ROWS]
    facts = {"most_ece": max(task["ece"] for task in large), "model": MODEL_SHA256, "tasks": tasks}
    write_results(output, "calibration", facts)
    if facts["most_ece"] > MOST_ECE:
        raise SystemExit(f"An ECE is {facts['most_ece']:.3f}, above {MOST_ECE}.")


def _measured(result: TaskResult) -> dict[str, Any] | None:
    reliability = result.reliability
    if reliability is None:
        return None
    return {
        "rows": result.rows,
        "probabilities": reliability.count,
        "ece": round(reliability.ece, 4),
        "brier": round(reliability.brier, 4),
        "rows_per_second": round(result.rows_per_second, 2),
    }


def _fitted(calibration: Calibration) -> dict[str, Any]:
    return {
        "temperature": round(calibration.temperature, 3),
        "bias": round(calibration.bias, 3),
        "least_coverage": round(calibration.least_coverage, 4),
        "rows": calibration.rows,
        "before": {name: round(value, 4) for name, value in asdict(calibration.before).items()},
        "after": {name: round(value, 4) for name, value in asdict(calibration.after).items()},
    }


if __name__ == "__main__":
    main()
