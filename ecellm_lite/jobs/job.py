"""A job answers every row of a table, and writes each row with its answer, in order.

A job with an output file stores its answers in a journal beside that file. If the job is stopped and run
again, it reuses the stored answers, even if the table was sorted or other rows were edited. A job may ask several tasks
about each row.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ecellm_lite.answerer import Answerer, RequestOptions, check_options
from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.space import Space
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.jobs.corrections import Corrections, unapplied_notes, write_labelled
from ecellm_lite.jobs.facts import job_facts, task_fact
from ecellm_lite.jobs.job_files import check_files
from ecellm_lite.jobs.job_row import JobAnswer, JobRow, JobStep
from ecellm_lite.jobs.job_task import JobTask, job_tasks
from ecellm_lite.jobs.job_writer import job_writer
from ecellm_lite.jobs.journal import Journal, journal_of
from ecellm_lite.jobs.journalled_rows import NothingAnsweredError, journalled_rows
from ecellm_lite.jobs.output import check_output, standard_output, write_whole
from ecellm_lite.jobs.refusals import refusals
from ecellm_lite.jobs.report.page import JobReport, check_installed, page
from ecellm_lite.jobs.review import ReviewRule, review_of, review_rule, shown_key
from ecellm_lite.jobs.review_entries import check_applied, read_review
from ecellm_lite.jobs.tally import Tally
from ecellm_lite.models.files import is_replaceable
from ecellm_lite.read_ahead import read_ahead
from ecellm_lite.tables.columns import MapOptions
from ecellm_lite.tables.mapped_row import MappedRow
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.row import Table, TableOptions, TableRow
from ecellm_lite.tables.writers import WriteOptions, form_of
from ecellm_lite.tasks.task import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack

WINDOW = 256  # rows that may be read ahead of the next row to write

# Codes of errors of the engine, not of the row; the row is tried again when the job resumes.
_PASSING = frozenset(("internal", "closed", "crashed"))

Progress = Callable[[JobStep], None]


@dataclass(frozen=True, slots=True)
class JobOptions:
    """Options for reading, mapping and writing a job's table, and for reusing stored answers.

    `restart`: answer every row again.
    `retry_failed`: answer rows again if their stored answer is an error. Reuse all other stored answers.
    `review_below`: the probability below which answers are also written to a review table, or `auto` to use a
      calibration's thresholds.
    `report`: the path of an HTML page about the finished job.
    `worded`: called with the error of a row that cannot be read. The result is written to the output.
    """

    table: TableOptions = field(default_factory=TableOptions)
    map: MapOptions = field(default_factory=MapOptions)
    write: WriteOptions = field(default_factory=WriteOptions)
    restart: bool = False
    retry_failed: bool = False
    review_below: float | str | None = None
    report: Path | None = None
    worded: Callable[[InputError], InputError] | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job: an open table, the tasks to ask about its rows, and the output file.

    Without an output file, the answers go to standard output.
    """

    tasks: tuple[JobTask, ...]
    table: Table
    output: Path | None
    options: JobOptions

    @property
    def journal_path(self) -> Path | None:
        """The path of the journal. None if the output is not a file. Such a job cannot be resumed."""
        if self.output is None or not is_replaceable(self.output):
            return None
        return journal_of(self.output.resolve())  # so that all links to the output share one journal

    def rows(self) -> Iterator[tuple[TableRow, Sequence[MappedRow]]]:
        """Yield each row of the table, together with the mapped row for each task."""
        for source in self.table.rows():
            yield source, [self._worded(part.columns.row(source)) for part in self.tasks]

    def _worded(self, mapped: MappedRow) -> MappedRow:
        worded = self.options.worded
        return replace(mapped, error=worded(mapped.error)) if worded and mapped.error else mapped

    def run(self, answerer: Answerer, *, progress: Progress | None = None, **options: Unpack[RequestOptions]) -> Tally:
        """Answer every row and return the tally. `progress` is called with each answer.

        A row that fails is written with its error, and the job continues. Raises InputError if the answers cannot be
        written. Raises UsageError in these cases:

        - Another process runs a job with the same output.
        - The output belongs to an unfinished job that had other settings, and the option `restart` is not set.
        - The output has a person's corrections for tasks with other names.
        - `review_below` is `auto` and there are no thresholds.
        - The review table of an earlier run has corrections that were not applied.
        - A job of several tasks gets an option that is for a single task.
        """
        check_options(options)
        if len(self.tasks) > 1 and (options.get("instruction") or options.get("space")):
            raise UsageError(
                "An instruction or a form of the answer is for a single task, but the job has several",
                step="leave it out, or ask one task",
                settings=("instruction", "task"),
            )
        tally = Tally()
        below = self.options.review_below
        tasks = [part.task for part in self.tasks]
        rules = [] if below is None else [review_rule(below, answerer, task, options) for task in tasks]
        with ExitStack() as stack:
            journal: Journal | None = None
            if path := self.journal_path:
                if below is not None and self.output:
                    with Journal(path, None) as earlier:  # before `restart` deletes the answers that are corrected
                        check_applied(review_of(self.output), path.parent, earlier.entries(), earlier.tables())
                facts = job_facts(answerer, tasks, options)
                journal = stack.enter_context(Journal(path, facts, restart=self.options.restart))
            stored = journal.corrections() if journal else {}
            written = journal.entries() if journal else {}
            corrections = [Corrections(task, stored, written, space=options.get("space")) for task in tasks]
            self._write(self._answers(answerer, journal, options, tally), corrections, rules, tally, progress)
            tally.notes += unapplied_notes(corrections, stored, written, reviewed=bool(rules))
        return tally

    def correct(self, file: Path, *, labelled: Path | None = None, space: Space | None = None) -> Tally:
        """Rewrite the output with the corrections of a review table, and return the tally. No model is called.

        Rows that have no answer yet stay without one. If no row has an answer, no file is written. A correction that is
        not an answer is in the tally's `refusals`. The journal keeps it, and the job lists it in its next review table.

        `labelled`: a file for all corrected rows with their right answers, including rows that were corrected earlier.
        Raises InputError for a file that is not a review table. Raises UsageError if the job does not exist, or if one
        of the files would overwrite another.
        """
        report = self.options.report
        check_files(self.table.source, self.output, reviewed=False, report=report, labelled=labelled, corrections=file)
        tally = Tally()
        tasks = [part.task for part in self.tasks]
        path = self.journal_path
        if path is None or not path.is_file():
            raise UsageError(
                f"There is no job at {self.output} to correct", step="answer the table first", settings=("output",)
            )
        with Journal(path, None) as journal:
            if journal.facts.get("task") != task_fact(*tasks):
                raise UsageError(
                    f"The job at {self.output} was for another task", step="name that task", settings=("task",)
                )
            review, stored, tables = read_review(file, path.parent), journal.corrections(), journal.tables()
            taken_back, written = review.taken_back(tables), journal.entries()
            kept = {key: text for key, text in stored.items() if shown_key(key) not in taken_back}
            corrections = [Corrections(task, kept, written, review.corrections, space) for task in tasks]
            try:
                self._write(journalled_rows(self.rows(), self.tasks, journal, tally), corrections, [], tally, None)
                if labelled:
                    write_labelled(labelled, [row for each in corrections for row in each.labelled])
                if tally.unanswered:
                    tally.notes.append(f"Rows that have no answer yet: {tally.unanswered:,} (the job answers them)")
            except NothingAnsweredError:
                tally.notes.append("No row has an answer yet, so no file was written (the job answers them)")
            applied = {key: text for each in corrections for key, text in each.applied.items()}
            entries = {key: correction.entry for key, correction in review.corrections.items()}
            changed = {key for key, entry in entries.items() if entry != written.get(key)}
            removed = [key for key in stored if key not in applied and shown_key(key) in {*changed, *taken_back}]
            journal.correct(applied, entries, table=review.table, removed=removed, taken_back=taken_back)
        matched = {key for each in corrections for key in each.matched}
        errors = {key: error for each in corrections for key, error in each.refused.items()}
        tally.notes += review.notes(matched, tables)
        tally.refusals = refusals(review, errors)
        return tally

    def _write(
        self,
        rows: Iterator[JobRow],
        corrections: Sequence[Corrections],
        rules: Sequence[ReviewRule],
        tally: Tally,
        progress: Progress | None,
    ) -> None:
        """Write the output, the review table and the report. A person's correction replaces the model's answer."""
        started = time.perf_counter()
        own_space = not any(each.space for each in corrections)
        with job_writer(
            self.tasks, self.table, self.output, self.options.write, rules, tally, own_space=own_space
        ) as writer:
            for source, answers in rows:
                final = [
                    each._replace(answer=correction.apply(each.mapped.row, each.key, each.answer)) if each.key else each
                    for each, correction in zip(answers, corrections, strict=True)
                ]
                corrected = [one.answer is not each.answer for one, each in zip(final, answers, strict=True)]
                unapplied = [
                    correction.unapplied(each.key) if each.key else None
                    for each, correction in zip(answers, corrections, strict=True)
                ]
                writer.write(JobRow(source, final), corrected, unapplied)
                for each in final if progress else ():
                    if progress and each.answer:
                        progress(JobStep(each.answer, source.number, each.share, each.reused))
        tally.notes[:0] = self.table.notes
        tally.seconds = time.perf_counter() - started
        if self.options.report:
            mappings = [part.description for part in self.tasks]
            report = JobReport(
                self.table.description, mappings, self.output, tally, writer.statistics, reviewed=bool(rules)
            )
            write_whole(self.options.report, page(report), "report")

    def _answers(
        self, answerer: Answerer, journal: Journal | None, options: RequestOptions, tally: Tally
    ) -> Iterator[JobRow]:
        """Yield each row with its answers to all tasks, in the table's order."""
        pending: deque[JobAnswer] = deque()

        def submit(pair: tuple[JobTask, MappedRow]) -> Future[Answer | None]:
            part, mapped = pair
            key = part.key(mapped) if journal else None
            journalled = journal.get(key) if journal and key and not mapped.error else None
            reused = False
            if mapped.skipped:
                future = _done(None)
            elif journalled and mapped.row is not None and not (self.options.retry_failed and journalled.error):
                reused = True
                future = _done(replace(journalled, id=mapped.row.get("id")))
            else:
                future = cast("Future[Answer | None]", answerer.submit(part.task, mapped.request, **options))
            pending.append(JobAnswer(mapped, key, None, reused, self.table.share))
            return future

        pairs = (pair for _, mapped in self.rows() for pair in zip(self.tasks, mapped, strict=True))
        answers: list[JobAnswer] = []
        most = max(WINDOW * len(self.tasks), getattr(answerer, "window", 0))  # a cluster answers more rows at a time
        for answer in read_ahead(pairs, submit, most=most):
            each = pending.popleft()
            if answer:
                passing = answer.error is not None and answer.error.code in _PASSING
                if journal and each.key and not each.reused and not each.mapped.error and not passing:
                    journal.put(each.key, answer)
                each = each.answered(answer)
            answers.append(each)
            if len(answers) == len(self.tasks):
                row, answers = JobRow(each.mapped.source, answers), []
                tally.reused += row.reused
                id_ = each.answer.id if each.answer else None
                if journal and id_ is not None and not journal.note(id_):
                    tally.repeated_ids += 1
                yield row


@contextmanager
def open_job(
    rows: Path | str, output: Path | None, task: Task | Sequence[Task], options: JobOptions | None = None
) -> Iterator[Job]:
    """Open a job's table, and check its columns and its output before any model is loaded.

    `rows` is a path, or `-` for standard input. `task` is one task, or several tasks to ask about each row.

    Raises InputError if the table cannot be read or the output cannot be written. Raises UsageError if the columns do
    not fit a task, or if the job would overwrite its table or another of its files.
    """
    options = options or JobOptions()
    if options.review_below is not None and (output is None or not is_replaceable(output)):
        raise UsageError("A review table needs an output file beside it", step="name one", settings=("output",))
    if output:
        form_of(output.name)  # raises UsageError for a file type that cannot be written
        check_output(output)
    else:
        standard_output()  # raises InputError if it is closed
    if options.report:
        check_installed()
        check_output(options.report, "report")
    with open_table(rows, options.table) as table:
        check_files(table.source, output, reviewed=options.review_below is not None, report=options.report)
        tasks = (task,) if isinstance(task, Task) else tuple(task)
        yield Job(job_tasks(tasks, table.columns, options.map), table, output, options)


def _done(answer: Answer | None) -> Future[Answer | None]:
    future: Future[Answer | None] = Future()
    future.set_result(answer)
    return future
