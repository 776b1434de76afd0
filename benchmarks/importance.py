"""Collects an importance matrix (imatrix) with llama.cpp's llama-imatrix, from prompts followed by their answers."""

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
    """Return about `rows` prompts of the training split, each followed by its answer. All tasks have equally many.

    Prompts of the rows in `tested` are left out, so that the imatrix is never tested on the prompts it was made from.
    """
    excluded = {prompt_of(row, envelope) for row in tested}
    gathered = gather(labelled_files(data, tasks, SPLIT), tasks, split=SPLIT, limit=-(-rows // len(tasks)))
    labelled = [row for each in gathered.rows.values() for row in each]
    return [prompt + row.gold for row in labelled if (prompt := prompt_of(row, envelope)) not in excluded]


def prompt_of(row: Labelled, envelope: Envelope) -> str:
    """Return the exact prompt of a labelled row."""
    question = row.task.question(row.row)
    return envelope.prompt(question.instruction, question.text, question.options)


def collect(program: Path, model: Path, texts: Sequence[str], target: Path, threads: int) -> None:
    """Run llama-imatrix over the texts. It writes the model's imatrix to `target`.

    `program` is the path of llama-imatrix. Raises ClickException if it fails.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n\n".join(texts))
        file.flush()
        command = [
            str(program.absolute()), "-m", str(model), "-f", file.name, "-o", str(target), "--output-format", "gguf",
            "-t", str(threads), "-tb", str(threads), "--no-ppl",
        ]  # fmt: skip
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode or not target.is_file():
        message = done.stdout.decode("utf-8", "replace").strip().splitlines()[-5:]
        raise click.ClickException(f"{program.name} made no imatrix ({done.returncode}): {' '.join(message)}")
