"""A job answers every row of a table, and writes each row with its answer, in order.

A job with an output file keeps its answers in a journal beside it. Started again, it reuses them, whatever stopped it,
even if rows were edited or sorted meanwhile.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from ecellm_lite.answerer import Answerer, RequestOptions
from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.space import Space
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.jobs.corrections import Corrections, failed, missing_answer, read_corrections, write_labelled
from ecellm_lite.jobs.facts import job_facts, task_fact
from ecellm_lite.jobs.journal import Journal, row_key
from ecellm_lite.jobs.output import check_output, is_read_from, is_replaceable, output_file, part_of, standard_output
from ecellm_lite.jobs.review import COLUMNS as REVIEW_COLUMNS
from ecellm_lite.jobs.review import ReviewRule, review_cells, review_of, review_rule
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

WINDOW = 256  # rows read ahead of the next answer to write

# Errors of the engine, not of the row: the row is tried again when the job resumes.
_PASSING = frozenset(("internal", "closed", "crashed"))

Progress = Callable[[Answer], None]


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How a job's table is read, mapped and written, and which stored answers are reused.

    `restart` answers every row anew; `retry_failed` those whose answer was an error. `review_below` is the probability
    below which answers are also written to a review table, or `auto` to use a calibration's thresholds.
    """

    table: TableOptions = field(default_factory=TableOptions)
    map: MapOptions = field(default_factory=MapOptions)
    write: WriteOptions = field(default_factory=WriteOptions)
    restart: bool = False
    retry_failed: bool = False
    review_below: float | str | None = None


class JobRow(NamedTuple):
    """A row, its key if it has one, and its answer (None for a skipped row)."""

    mapped: MappedRow
    key: bytes | None
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class Job:
    """An open table, its mapping to a task, and the output file (None: standard output)."""

    task: Task
    table: Table
    columns: ColumnMap
    output: Path | None
    options: JobOptions

    @property
    def journal_path(self) -> Path | None:
        """Where the answers are stored; None if the output is not a file, so that the job cannot be resumed."""
        if self.output is None or not is_replaceable(self.output):
            return None
        return journal_of(self.output)

    def run(self, answerer: Answerer, *, progress: Progress | None = None, **options: Unpack[RequestOptions]) -> Tally:
        """Answer every row and return the tally; `progress` is called with each answer.

        A row that fails is written with its error, and does not end the job. Raises InputError if the answers cannot
        be written, and UsageError if an unfinished job on the same output had other settings, or if `review_below` is
        `auto` and there are no thresholds.
        """
        tally = Tally()
        below = self.options.review_below
        rule = None if below is None else review_rule(below, answerer, self.task, options)
        with ExitStack() as stack:
            path = self.journal_path
            journal: Journal | None = None
            if path:
                facts = job_facts(answerer, self.task, options)
                journal = stack.enter_context(Journal(path, facts, restart=self.options.restart))
            rows = self._answers(answerer, journal, options, tally)
            stored = journal.corrections() if journal else {}
            self._write(rows, Corrections(self.task, stored, space=options.get("space")), rule, tally, progress)
        return tally

    def correct(self, file: Path, *, labelled: Path | None = None, space: Space | None = None) -> Tally:
        """Rewrite the output with the corrections of a review table, and return the tally; no model is called.

        All rows of this table that were ever corrected are written to `labelled`, as labelled rows. Raises InputError
        for an invalid correction, and UsageError if the job has not finished.
        """
        tally = Tally()
        path = self.journal_path
        if path is None or not path.is_file():
            raise UsageError(
                f"There is no job at {self.output} to correct", step="answer the table first", settings=("output",)
            )
        with Journal(path, None) as journal:
            if journal.facts.get("task") != task_fact(self.task):
                raise UsageError(
                    f"The job at {self.output} was for another task", step="name that task", settings=("task",)
                )
            corrections = Corrections(self.task, journal.corrections(), read_corrections(file), space, str(file))
            self._write(self._journalled(journal, tally), corrections, None, tally, None)
            journal.correct(corrections.applied)
        if labelled:
            write_labelled(labelled, corrections.labelled)
        if corrections.unused:
            tally.notes.append(f"{corrections.unused:,} corrections match no row of this table")
        return tally

    def _write(
        self,
        rows: Iterator[JobRow],
        corrections: Corrections,
        rule: ReviewRule | None,
        tally: Tally,
        progress: Progress | None,
    ) -> None:
        """Write the output and the review table, with a person's answer where there is one."""
        started = time.perf_counter()
        with ExitStack() as stack:
            file = stack.enter_context(output_file(self.output)) if self.output else standard_output()
            writer = self._writer(file)
            review: ResultWriter | None = None
            if rule and self.output:
                review = self._writer(stack.enter_context(output_file(review_of(self.output))), REVIEW_COLUMNS)
            for mapped, key, answer in rows:
                person = False
                if answer and key and mapped.row is not None:
                    model, answer = answer, corrections.apply(mapped.row, key, answer)
                    person = answer is not model
                writer.write(mapped.source, answer)
                if answer is None:
                    tally.skipped += 1
                    continue
                tally.count(answer)
                tally.corrected += person
                if rule and review and not person and (reason := rule.reason(answer)):
                    tally.to_review += 1
                    review.write(mapped.source, answer, review_cells(reason, key))
                if progress:
                    progress(answer)
            for each in filter(None, (writer, review)):
                each.close()
            tally.notes += [*self.table.notes, *writer.notes]
        tally.seconds = time.perf_counter() - started

    def _answers(
        self, answerer: Answerer, journal: Journal | None, options: RequestOptions, tally: Tally
    ) -> Iterator[JobRow]:
        """Yield each row with its key and its answer (None for a skipped row)."""
        pending: deque[tuple[MappedRow, bytes | None, bool]] = deque()

        def submit(mapped: MappedRow) -> Future[Answer | None]:
            key = row_key(mapped.row) if journal and mapped.row is not None else None
            journalled = journal.get(key) if journal and key else None
            new = False
            if mapped.skipped:
                future = _done(None)
            elif journalled and mapped.row is not None and not (self.options.retry_failed and journalled.error):
                tally.reused += 1
                future = _done(replace(journalled, id=mapped.row.get("id")))
            else:
                new = True
                future = cast("Future[Answer | None]", answerer.submit(self.task, mapped.request, **options))
            pending.append((mapped, key, new))
            return future

        for answer in read_ahead(self.columns.rows(self.table), submit, most=WINDOW):
            mapped, key, new = pending.popleft()
            if answer is None:
                yield JobRow(mapped, key, None)
                continue
            if journal and key and new and not (answer.error and answer.error.code in _PASSING):
                journal.put(key, answer)
            if journal and answer.id is not None and not journal.note(answer.id):
                tally.repeated_ids += 1
            yield JobRow(mapped, key, _warned(mapped, answer))

    def _journalled(self, journal: Journal, tally: Tally) -> Iterator[JobRow]:
        """Yield each row with its answer from the journal; raises UsageError if one is missing."""
        for mapped in self.columns.rows(self.table):
            if mapped.row is None:
                yield JobRow(mapped, None, failed(self.task, mapped.error, journal.facts) if mapped.error else None)
                continue
            key = row_key(mapped.row)
            answer = journal.get(key)
            if answer is None:
                raise missing_answer(mapped.source.number)
            tally.reused += 1
            yield JobRow(mapped, key, _warned(mapped, replace(answer, id=mapped.row.get("id"))))

    def _writer(self, file: IO[bytes], more: Sequence[str] = ()) -> ResultWriter:
        form = form_of(self.output.name) if self.output else "jsonl"
        names = () if form == "jsonl" else self.table.all_columns()
        answers = AnswerColumns(names, attributes=self.columns.attributes, scores=_scores(self.task), more=more)
        return ResultWriter(
            cast("IO[bytes]", _Flushed(file)), form, names, answers, self.options.write, self.table.schema
        )


@contextmanager
def open_job(rows: Path | str, output: Path | None, task: Task, options: JobOptions | None = None) -> Iterator[Job]:
    """Open a job's table (`-`: standard input) and check its mapping and its output, before any model is loaded.

    Raises InputError for a table that cannot be read or an output that cannot be written, and UsageError for columns
    that do not fit the task, or an output that would overwrite the table.
    """
    options = options or JobOptions()
    if options.review_below is not None and (output is None or not is_replaceable(output)):
        raise UsageError("A review table needs an output file beside it", step="name one", settings=("output",))
    if output:
        form_of(output.name)  # raises for a form that cannot be written
        check_output(output)
    else:
        standard_output()  # raises if it is closed
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
    """Return the path of the journal for this output."""
    return part_of(output).with_suffix(".journal")


class _Flushed:
    """A file that is flushed after every write."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        try:
            count = self._file.write(data)
            self._file.flush()
        except BrokenPipeError:  # the reader of our output is gone, which is not an error
            raise
        except OSError as error:
            message = f"The answers cannot be written ({error.strerror})"
            step = "free some space, or write elsewhere; the same command then resumes the job"
            raise InputError(message, step=step, settings=("output",)) from None
        return count

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def _scores(task: Task) -> bool:
    return task.question(task.example()).space.type == "score"


def _warned(mapped: MappedRow, answer: Answer) -> Answer:
    warnings = [*mapped.warnings, *(answer.warnings or ())]
    return replace(answer, warnings=warnings or None)


def _done(answer: Answer | None) -> Future[Answer | None]:
    future: Future[Answer | None] = Future()
    future.set_result(answer)
    return future
