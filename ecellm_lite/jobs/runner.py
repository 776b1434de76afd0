"""A job: one output line for each input row, in order, in a file that is complete or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ecellm_lite.answers.answer import Answer
from ecellm_lite.errors import InputError


@dataclass(slots=True)
class Tally:
    """How many rows a job wrote, and how many of them failed, were shortened, or were abstained from."""

    rows: int = 0
    failed: int = 0
    shortened: int = 0
    abstained: int = 0


def write_answers(answers: Iterable[Answer], file: IO[str], progress: Callable[[Answer], None] | None = None) -> Tally:
    """Write one JSON line (ASCII) for each answer and return the tally."""
    tally = Tally()
    for answer in answers:
        try:
            file.write(json.dumps(answer.as_dict()) + "\n")
            file.flush()  # an answer may have taken seconds: whoever is killed has lost none that was there
        except BrokenPipeError:  # the reader of our output has gone, and wants no sentence
            raise
        except OSError as error:
            raise InputError(
                f"The answers cannot be written ({error.strerror}): make room, or send them elsewhere."
            ) from None
        tally.rows += 1
        tally.failed += answer.error is not None
        tally.shortened += answer.shortened is not None
        tally.abstained += answer.abstained
        if progress:
            progress(answer)
    return tally


@contextmanager
def output_file(path: Path) -> Iterator[IO[str]]:
    """Open a job's output: it is written beside `path` as `path.part`, and takes its name when the job has ended.

    What was written before an interruption, or a kill, stays in the `.part` file; a device or a pipe is written
    straight. Raises InputError where it cannot be written.
    """
    check_output(path)
    if path.exists() and not path.is_file():
        # A device or a pipe has no content to keep, and must not be replaced by a file.
        with _opened(path, path) as file:
            yield file
        return
    path = path.resolve()  # a link stays a link
    with _opened(part_of(path), path) as file:
        yield file
        with _writable(path):
            file.flush()
            os.fsync(file.fileno())  # the name must not be there before the answers are, whenever the power goes
    with _writable(path):
        part_of(path).replace(path)


def part_of(path: Path) -> Path:
    """Return where a job's output is written until the job has ended."""
    return path.with_name(path.name + ".part")


def check_output(path: Path) -> None:
    """Raise InputError if a job could not end well there: a folder, or a name in a folder that does not exist."""
    with _writable(path):  # a name may be too long, or a folder closed to us
        part_of(path).exists()
        if path.is_dir():
            raise InputError(f"{path} is a folder: give --output the name of a file in it.")
        if not path.parent.is_dir():
            raise InputError(
                f"{path} cannot be written, for {path.parent} is no folder: make it, or take another --output."
            )


@contextmanager
def _opened(place: Path, path: Path) -> Iterator[IO[str]]:
    with _writable(path):
        file = place.open("w", encoding="ascii", newline="\n")
    try:
        yield file
        with _writable(path):
            file.flush()
    finally:
        with suppress(OSError):  # what could not be written has been said already
            file.close()


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): make room, or take another --output.") from None
