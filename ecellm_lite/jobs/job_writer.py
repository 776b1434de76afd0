"""Writes a job's rows to its output.

Answers that a person should check are also written to a review table beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

from ecellm_lite.jobs.corrections import SAME
from ecellm_lite.jobs.job_row import JobRow
from ecellm_lite.jobs.job_task import JobTask
from ecellm_lite.jobs.output import FlushedFile, output_file, standard_output
from ecellm_lite.jobs.review import ReviewRule, review_cells, review_columns, review_of
from ecellm_lite.jobs.statistics import TaskStatistics
from ecellm_lite.jobs.tally import Tally
from ecellm_lite.tables.results import AnswerColumns
from ecellm_lite.tables.row import Table
from ecellm_lite.tables.writers import ResultWriter, WriteOptions, form_of


class JobWriter:
    """Writes a job's answers, and counts them.

    `review`: writes the review table (the rows that a person should check), or None if the job has no such table.
    `rules`: for each task, which rows a person should check. Empty if `review` is None.
    """

    def __init__(
        self,
        tasks: Sequence[JobTask],
        tally: Tally,
        writer: ResultWriter,
        review: ResultWriter | None,
        rules: Sequence[ReviewRule],
    ) -> None:
        self._tasks = tasks
        self._tally = tally
        self._writer = writer
        self._review = review
        self._rules = rules
        self.statistics = [TaskStatistics(part.name) for part in tasks]

    def write(self, row: JobRow, corrected: Sequence[bool], unapplied: Sequence[tuple[str, str] | None]) -> None:
        """Write a row.

        `corrected`: for each task, whether a person wrote the answer.
        `unapplied`: for each task, a correction that was not applied (see Corrections.unapplied). The review table
          shows it again.
        """
        self._writer.write(row.source, *(each.answer for each in row.answers))
        answers = [each.answer for each in row.answers if each.answer]
        self._tally.skipped += all(each.mapped.skipped for each in row.answers)
        self._tally.unanswered += any(not each.answer and not each.mapped.skipped for each in row.answers)
        if not answers:
            return
        self._tally.count(*answers)
        self._tally.corrected += sum(corrected)
        for place, (each, person) in enumerate(zip(row.answers, corrected, strict=True)):
            if each.answer is None:
                continue
            reason = self._rules[place].reason(each.answer) if self._rules and not person else None
            text = None
            if self._rules and (correction := unapplied[place]):
                reason, text = correction
            self.statistics[place].add(each.mapped, each.answer, reason=reason, corrected=person)
            if self._review and reason:
                self._tally.to_review += 1
                part = self._tasks[place]
                cells = review_cells(None if part.alone else part.name, reason, each.key, text)
                self._review.write(row.source, each.answer, more=cells)

    def close(self) -> None:
        """Finish the output and the review table."""
        for each in filter(None, (self._writer, self._review)):
            each.close()
        self._tally.notes += self._writer.notes


@contextmanager
def job_writer(
    tasks: Sequence[JobTask],
    table: Table,
    output: Path | None,
    options: WriteOptions,
    rules: Sequence[ReviewRule],
    tally: Tally,
    *,
    own_space: bool,
) -> Iterator[JobWriter]:
    """Open a job's output file and its review table. If `output` is None, open standard output.

    `own_space`: whether the job uses the tasks' own answer spaces. If not, the review table offers no answers.

    Both files get their final names when the `with` block ends without an error.
    """
    form = form_of(output.name) if output else "jsonl"
    options = options.of(table)
    names = () if form == "jsonl" else table.all_columns()

    def writer(file: IO[bytes], answers: Sequence[AnswerColumns]) -> ResultWriter:
        return ResultWriter(cast("IO[bytes]", FlushedFile(file)), form, names, answers, options, table.schema)

    with ExitStack() as stack:
        file = stack.enter_context(output_file(output)) if output else standard_output()
        columns: list[AnswerColumns] = []
        for part in tasks:
            before = [*names, *(column.name for each in columns for column in each.columns)]
            columns.append(part.answer_columns(before))
        review: ResultWriter | None = None
        if rules and output:
            beside = stack.enter_context(output_file(review_of(output)))
            answers = tasks[0].options if own_space and len(tasks) == 1 else ()
            more = review_columns((*answers, SAME) if answers else (), alone=len(tasks) == 1)
            # With several tasks, each line of the review table is about one task, so all tasks share the same columns.
            answer_columns = (
                tasks[0].answer_columns(names, more) if len(tasks) == 1 else AnswerColumns(names, more=more)
            )
            review = writer(beside, [answer_columns])
        rows = JobWriter(tasks, tally, writer(file, columns), review, rules)
        yield rows
        rows.close()
