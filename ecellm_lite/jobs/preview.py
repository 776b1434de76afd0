"""Shows what a job would do: its first rows as the task sees them, and the prompts made from them."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ecellm_lite.envelopes import Envelope
from ecellm_lite.errors import InputError
from ecellm_lite.jobs.job import Job
from ecellm_lite.jobs.job_task import JobTask
from ecellm_lite.tables.mapped_row import MappedRow


def preview(job: Job, envelope: Envelope, count: int, instruction: str | None = None) -> Iterator[str]:
    """Yield a text to show for each of the first `count` rows and each task: the row and its prompt.

    If the row is invalid, the text has the row's error. Rows that the job skips are not shown and do not count.
    """
    for source, mapped_rows in job.rows():
        if all(mapped.skipped for mapped in mapped_rows):
            continue
        if count <= 0:
            return
        count -= 1
        for part, mapped in zip(job.tasks, mapped_rows, strict=True):
            task = "" if part.alone else f", {part.name}"
            yield f"Row {source.number}, line {source.line}{task}: {_text(part, mapped, envelope, instruction)}"


def _text(part: JobTask, mapped: MappedRow, envelope: Envelope, instruction: str | None) -> str:
    try:
        if mapped.error or mapped.row is None:
            raise mapped.error or InputError("The row is empty.")
        question = part.task.question(mapped.row, instruction=instruction)
    except InputError as error:
        return str(error)
    prompt = envelope.prompt(question.instruction, question.text, question.options, question.examples)
    return f"{json.dumps(mapped.row, ensure_ascii=False, default=str)}\n\n{prompt}"
