"""Claim: the standalone program starts about as fast as the installed one.

    python -m benchmarks.standalone --python ENVIRONMENT/bin/python --program FOLDER [--file NAME=PATH]...

The standalone program is a folder that needs no Python on the machine. ENVIRONMENT is the environment that it was
packed from. The two programs are started alternately. The sizes of both are reported too. `--file` adds the size of a
file, such as a wheel, to the results.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.facts import write_results

ROW = {"review": "Works, but it is loud, and the lid feels flimsy."}
STEPS = {
    "--version": ["--version"],
    "an answer": ["run", "--task", "SA", "--input", json.dumps(ROW), "--model", "demo", "--json"],
}


@click.command()
@click.option("--python", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--program", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--file", "files", multiple=True, metavar="NAME=PATH")
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/standalone.json"))
def main(python: Path, program: Path, files: Sequence[str], repeats: int, output: Path) -> None:
    """Time each step with the installed program and with the standalone one. Write the times and the file sizes."""
    ways = {"installed": [str(python.absolute()), "-m", "ecellm_lite"], "standalone": [str(program / "ecellm-lite")]}
    with tempfile.TemporaryDirectory() as home:
        for command in ways.values():  # makes the demo, and brings the files into the page cache
            seconds_of([*command, *STEPS["an answer"]], home)
        each: dict[str, dict[str, list[float]]] = {way: {step: [] for step in STEPS} for way in ways}
        for _ in range(repeats):
            for step, arguments in STEPS.items():
                for way, command in ways.items():
                    each[way][step].append(round(seconds_of([*command, *arguments], home), 3))
    sizes = {name: Path(path).stat().st_size for name, path in (one.split("=", 1) for one in files)}
    parts = [path for path in program.rglob("*") if path.is_file() and not path.is_symlink()]
    sizes["the standalone folder"] = sum(path.stat().st_size for path in parts)
    results: dict[str, Any] = {
        "seconds": {way: {step: median(values) for step, values in steps.items()} for way, steps in each.items()},
        "each_repeat": each,
        "demo_weights_bytes": sum(path.stat().st_size for path in parts if path.suffix == ".gguf"),
        "bytes": sizes,
    }
    write_results(output, "standalone", results)


def seconds_of(command: Sequence[str], home: str) -> float:
    """Return how long a command takes from its start to its end."""
    began = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"ECELLM_HOME": home}
    subprocess.run(command, env=environment, cwd=home, capture_output=True, check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
