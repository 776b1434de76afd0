"""The rows of a table, with the answers that a job's journal has. No model is called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ecellm_lite.answers.answer import AdapterName, Answer, ModelName
from ecellm_lite.errors import InputError
from ecellm_lite.jobs.job_row import JobAnswer, JobRow
from ecellm_lite.jobs.job_task import JobTask
from ecellm_lite.jobs.journal import Journal
from ecellm_lite.jobs.tally import Tally
from ecellm_lite.tables.mapped_row import MappedRow
from ecellm_lite.tables.row import TableRow
from ecellm_lite.tasks.task import Task


class NothingAnsweredError(Exception):
    """No row of a table has an answer in the job's journal."""


def journalled_rows(
    rows: Iterable[tuple[TableRow, Sequence[MappedRow]]], tasks: Sequence[JobTask], journal: Journal, tally: Tally
) -> Iterator[JobRow]:
    """Yield each row with its answers from the journal. A row that is not answered yet has None in place of an answer.

    `rows`: each row, together with the mapped row for each task.

    Raises NothingAnsweredError after the last row if the journal has no answer to any of the rows.
    """
    waiting = answered = 0
    for source, mapped_rows in rows:
        answers: list[JobAnswer] = []
        for part, mapped in zip(tasks, mapped_rows, strict=True):
            each = JobAnswer(mapped, part.key(mapped), None)
            if mapped.error:
                each = each._replace(answer=_failed(part.task, mapped.error, journal.facts))
            elif each.key and mapped.row is not None:
                if answer := journal.get(each.key):
                    each = each._replace(reused=True).answered(replace(answer, id=mapped.row.get("id")))
                waiting += answer is None
                answered += answer is not None
            answers.append(each)
        row = JobRow(source, answers)
        tally.reused += row.reused
        yield row
    if waiting and not answered:
        raise NothingAnsweredError


def _failed(task: Task, error: InputError, facts: Mapping[str, str]) -> Answer:
    """Return the answer to a row that could not be read, with `error`. `facts` name the model (see jobs/facts.py)."""
    name, _, sha256 = facts.get("model", "").rpartition(" ")
    adapter = AdapterName(*facts["adapter"].rsplit(" ", 1)) if "adapter" in facts else None
    return Answer.failed(task.name, error, model=ModelName(name, sha256, adapter), envelope=facts.get("envelope", ""))
