"""A job: every row of a table is answered, and written with its answer, in order.

A job with an output file keeps its answers in a journal beside it. Started again, it takes from there what it has
answered already, whatever stopped it; the rows themselves may have been edited or sorted meanwhile.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from ecellm_lite.answerer import Answerer, RequestOptions
from ecellm_lite.answers.answer import Answer
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.jobs.facts import job_facts
from ecellm_lite.jobs.journal import Journal, row_key
from ecellm_lite.jobs.output import check_output, is_read_from, is_replaceable, output_file, part_of, standard_output
from ecellm_lite.jobs.tally import Tally
from ecellm_lite.read_ahead import read_ahead
from ecellm_lite.tables.columns import ColumnMap, MapOptions
from ecellm_lite.tables.mapped_row import MappedRow
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.results import AnswerColumns
from ecellm_lite.tables.row import Table, TableOptions
from ecellm_lite.tables.writers import ResultWriter, WriteOptions, form_of
from ecellm_lite.tasks.task import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack

WINDOW = 256  # rows that are read ahead of the answer that is written next

# Errors of the engine, not of the row: it is asked again when the job goes on.
_PASSING = frozenset(("internal", "closed", "crashed"))

Progress = Callable[[Answer], None]


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How a job's table is read, mapped and written, and what becomes of answers that it has already.

    `restart` answers every row anew; `retry_failed` those whose answer was an error.
    """

    table: TableOptions = field(default_factory=TableOptions)
    map: MapOptions = field(default_factory=MapOptions)
    write: WriteOptions = field(default_factory=WriteOptions)
    restart: bool = False
    retry_failed: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A table that is open to be read, its mapping to a task, and where it goes (None: to standard output)."""

    task: Task
    table: Table
    columns: ColumnMap
    output: Path | None
    options: JobOptions

    @property
    def journal_path(self) -> Path | None:
        """Where the answers are kept; None where there is no output file to go on with."""
        if self.output is None or not is_replaceable(self.output):
            return None
        return journal_of(self.output)

    def run(self, answerer: Answerer, *, progress: Progress | None = None, **options: Unpack[RequestOptions]) -> Tally:
        """Answer every row and return the tally; `progress` is called with each answer.

        A row that fails is written with its error, and does not end the job. Raises InputError where the answers cannot
        be written, and UsageError where an unfinished job on the same output was asked otherwise.
        """
        started = time.perf_counter()
        tally = Tally()
        with ExitStack() as stack:
            path = self.journal_path
            journal: Journal | None = None
            if path:
                facts = job_facts(answerer, self.task, options)
                journal = stack.enter_context(Journal(path, facts, restart=self.options.restart))
            writer = self._writer(stack)
            for mapped, answer in self._answers(answerer, journal, options, tally):
                writer.write(mapped.source, answer)
                if answer is None:
                    tally.skipped += 1
                    continue
                tally.count(answer)
                if progress:
                    progress(answer)
            writer.close()
            tally.notes += [*self.table.notes, *writer.notes]
        tally.seconds = time.perf_counter() - started
        return tally

    def _answers(
        self, answerer: Answerer, journal: Journal | None, options: RequestOptions, tally: Tally
    ) -> Iterator[tuple[MappedRow, Answer | None]]:
        """Yield each row with its answer, None for a row that is not asked."""
        asked: deque[tuple[MappedRow, bytes | None]] = deque()

        def submit(mapped: MappedRow) -> Future[Answer | None]:
            key = row_key(mapped.row) if journal and mapped.row is not None else None
            kept = journal.get(key) if journal and key else None
            if mapped.skipped:
                future = _done(None)
            elif kept and mapped.row is not None and not (self.options.retry_failed and kept.error):
                key = None  # nothing new to keep
                tally.reused += 1
                future = _done(replace(kept, id=mapped.row.get("id")))
            else:
                row = mapped.error or mapped.row
                assert row is not None
                future = cast("Future[Answer | None]", answerer.submit(self.task, row, **options))
            asked.append((mapped, key))
            return future

        for answer in read_ahead(self.columns.rows(self.table), submit, most=WINDOW):
            mapped, key = asked.popleft()
            if answer is None:
                yield mapped, None
                continue
            if journal and key and not (answer.error and answer.error.code in _PASSING):
                journal.put(key, answer)
            if journal and answer.id is not None and not journal.note(answer.id):
                tally.repeated_ids += 1
            warnings = [*mapped.warnings, *(answer.warnings or ())]
            yield mapped, replace(answer, warnings=warnings or None)

    def _writer(self, stack: ExitStack) -> ResultWriter:
        file = stack.enter_context(output_file(self.output)) if self.output else standard_output()
        form = form_of(self.output.name) if self.output else "jsonl"
        names = () if form == "jsonl" else self.table.all_columns()
        answers = AnswerColumns(names, attributes=self.columns.attributes, scores=_scores(self.task))
        return ResultWriter(
            cast("IO[bytes]", _Flushed(file)), form, names, answers, self.options.write, self.table.schema
        )


@contextmanager
def open_job(rows: Path | str, output: Path | None, task: Task, options: JobOptions | None = None) -> Iterator[Job]:
    """Open a job's table (`-`: standard input) and check its mapping and its output, before a model is loaded for it.

    Raises InputError for a table that cannot be read or an output that cannot be written, and UsageError for columns
    that do not fit the task, or where the output would replace the table.
    """
    options = options or JobOptions()
    if output:
        form_of(output.name)  # raises for a table's ending that is not written
        check_output(output)
    else:
        standard_output()  # raises where it is closed
    with open_table(rows, options.table) as table:
        if is_read_from(output, table.source):
            name = f"{output}, or from its unfinished file" if output else "the file that standard output goes to"
            raise UsageError(
                f"The rows are read from {name}",
                step="write the answers to another file",
                settings=("output",),
            )
        yield Job(task, table, ColumnMap(task, table.columns, options.map), output, options)


def journal_of(output: Path) -> Path:
    """Return where the answers of a job with this output are kept."""
    return part_of(output).with_suffix(".journal")


class _Flushed:
    """A file in which every row is on disk before the next is answered, as far as its form allows."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        try:
            count = self._file.write(data)
            self._file.flush()
        except BrokenPipeError:  # whoever reads our output has left, which is no error
            raise
        except OSError as error:
            message = f"The answers cannot be written ({error.strerror})"
            step = "make room, or send them elsewhere; the same command then goes on"
            raise InputError(message, step=step, settings=("output",)) from None
        return count

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def _scores(task: Task) -> bool:
    return task.question(task.example()).space.type == "score"


def _done(answer: Answer | None) -> Future[Answer | None]:
    future: Future[Answer | None] = Future()
    future.set_result(answer)
    return future
