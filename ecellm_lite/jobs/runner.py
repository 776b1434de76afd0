"""A job: one output line for each input row, in order, in a file that is complete or not there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ecellm_lite.answers.answer import Answer
from ecellm_lite.errors import InputError


@dataclass(slots=True)
class Tally:
    """How many rows a job wrote, and how many of them failed."""

    rows: int = 0
    failed: int = 0


def write_answers(answers: Iterable[Answer], file: IO[str], progress: Callable[[Answer], None] | None = None) -> Tally:
    """Write one JSON line (ASCII) for each answer and return the tally."""
    tally = Tally()
    for answer in answers:
        try:
            file.write(json.dumps(answer.as_dict()) + "\n")
        except BrokenPipeError:  # the reader of our output has gone, and wants no sentence
            raise
        except OSError as error:
            raise InputError(f"The answers cannot be written ({error}): make room, or take another --output.") from None
        tally.rows += 1
        tally.failed += answer.error is not None
        if progress:
            progress(answer)
    return tally


@contextmanager
def output_file(path: Path) -> Iterator[IO[str]]:
    """Open a job's output: it is written beside `path` as `path.part`, and takes its name when the job has ended.

    What was written before an interruption stays in the `.part` file. Raises InputError where it cannot be written.
    """
    part = part_of(path)
    with _writable(path):
        file = part.open("w", encoding="ascii", newline="\n")
    try:
        yield file
        with _writable(path):
            file.flush()
    finally:
        with suppress(OSError):  # what could not be written has been said already
            file.close()
    with _writable(path):
        part.replace(path)


def part_of(path: Path) -> Path:
    """Return where a job's output is written until the job has ended."""
    return path.with_name(path.name + ".part")


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error}): make room, or take another --output.") from None
