"""A job: one output line for each input row, in order, in a file that is complete or not there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
    """Write one JSON line for each answer and return the tally."""
    tally = Tally()
    for answer in answers:
        file.write(json.dumps(answer.as_dict(), ensure_ascii=False) + "\n")
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
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8", errors="backslashreplace") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error}): make room, or take another --output.") from None
