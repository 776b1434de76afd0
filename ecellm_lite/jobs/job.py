"""A job: every row of a file is answered, one JSON line for each row, in order."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from ecellm_lite.answerer import Answerer, RequestOptions
from ecellm_lite.answers.answer import Answer
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.jobs.output import check_output, is_read_from, output_file
from ecellm_lite.tables.json_lines import check_form, read_rows
from ecellm_lite.tasks.task import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack

Progress = Callable[[Answer], None]


@dataclass(slots=True)
class Tally:
    """How many rows a job wrote, how many of them failed, were shortened or abstained from, and the job's seconds."""

    rows: int = 0
    failed: int = 0
    shortened: int = 0
    abstained: int = 0
    seconds: float = 0.0

    def count(self, answer: Answer) -> None:
        """Count an answer."""
        self.rows += 1
        self.failed += answer.error is not None
        self.shortened += answer.shortened is not None
        self.abstained += answer.abstained


@dataclass(frozen=True, slots=True)
class Job:
    """Rows that are open to be read, and where their answers go (None: to standard output)."""

    source: BufferedReader
    output: Path | None

    def run(
        self, answerer: Answerer, task: Task, *, progress: Progress | None = None, **options: Unpack[RequestOptions]
    ) -> Tally:
        """Answer every row and return the tally; `progress` is called with each answer.

        A row that fails has a line with its error, and does not end the job. Raises InputError where the answers
        cannot be written.
        """
        started = time.perf_counter()
        with ExitStack() as stack:
            target = stack.enter_context(output_file(self.output)) if self.output else sys.stdout
            tally = write_answers(answerer.answers(task, read_rows(self.source), **options), target, progress)
        tally.seconds = time.perf_counter() - started
        return tally


@contextmanager
def open_job(rows: Path | None, output: Path | None = None) -> Iterator[Job]:
    """Open a job's rows (None: standard input) and check its output, before a model is loaded for it.

    Raises InputError for rows that cannot be read or an output that cannot be written, and UsageError where the output
    would replace the rows.
    """
    if output:
        check_output(output)
    with _open_rows(rows) as source:
        if output and is_read_from(output, source):
            raise UsageError(
                f"The rows are read from {output}, or from its unfinished file",
                step="write the answers to another file",
                settings=("output",),
            )
        yield Job(source, output)


@contextmanager
def _open_rows(path: Path | None) -> Iterator[BufferedReader]:
    if path is None:
        if not sys.stdin:
            raise InputError("Standard input is closed", step="give the rows as a file", settings=("rows",))
        source = cast("BufferedReader", sys.stdin.buffer)
        check_form(source, "standard input")
        yield source
        return
    try:
        file = path.open("rb")
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror})"
        raise InputError(message, step="give a JSON Lines file", settings=("rows",)) from None
    with file:
        check_form(file, str(path))
        yield file


def write_answers(answers: Iterable[Answer], file: IO[str], progress: Progress | None = None) -> Tally:
    """Write one JSON line (ASCII) for each answer, as soon as it is there, and return the tally."""
    tally = Tally()
    for answer in answers:
        try:
            file.write(json.dumps(answer.as_dict()) + "\n")
            file.flush()  # an answer may have taken seconds: a killed job has lost none
        except BrokenPipeError:  # the reader of our output has left, which is no error
            raise
        except OSError as error:
            message = f"The answers cannot be written ({error.strerror})"
            raise InputError(message, step="make room, or send them elsewhere", settings=("output",)) from None
        tally.count(answer)
        if progress:
            progress(answer)
    return tally
