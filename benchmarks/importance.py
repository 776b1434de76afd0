"""Collects an imatrix by llama.cpp's own llama-imatrix, on prompts with their answers behind them."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from ecellm_lite.envelopes import Envelope
from ecellm_lite.evaluate.labelled import Labelled
from ecellm_lite.evaluate.labelled_files import gather, labelled_files
from ecellm_lite.tasks.task import Task

SPLIT = "train"


def lessons(data: Path, tasks: Sequence[Task], rows: int, envelope: Envelope, tested: Sequence[Labelled]) -> list[str]:
    """Return some `rows` prompts of the training split with their answers, spread evenly over the tasks and their rows.

    A row that asks what a `tested` row asks is left out: the imatrix must not have seen what it is measured on.
    """
    known = {prompt_of(row, envelope) for row in tested}
    gathered = gather(labelled_files(data, tasks, SPLIT), tasks, split=SPLIT, limit=-(-rows // len(tasks)))
    found = [row for each in gathered.rows.values() for row in each]
    return [prompt + row.gold for row in found if (prompt := prompt_of(row, envelope)) not in known]


def prompt_of(row: Labelled, envelope: Envelope) -> str:
    """Return the exact prompt of a labelled row."""
    question = row.task.question(row.row)
    return envelope.prompt(question.instruction, question.text, question.options)


def collect(program: Path, model: Path, texts: Sequence[str], target: Path, threads: int) -> None:
    """Write the imatrix of a model over the texts to the target; raises ClickException with what the program said."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as given:
        given.write("\n\n".join(texts))
        given.flush()
        command = [
            str(program.absolute()), "-m", str(model), "-f", given.name, "-o", str(target), "--output-format", "gguf",
            "-t", str(threads), "-tb", str(threads), "--no-ppl",
        ]  # fmt: skip
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode or not target.is_file():
        said = done.stdout.decode("utf-8", "replace").strip().splitlines()[-5:]
        raise click.ClickException(f"{program.name} made no imatrix ({done.returncode}): {' '.join(said)}")
