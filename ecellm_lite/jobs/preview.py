"""The first rows of a job as its task reads them, and their prompts."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ecellm_lite.envelopes import Envelope
from ecellm_lite.errors import InputError
from ecellm_lite.jobs.job import Job


def preview(job: Job, envelope: Envelope, count: int, instruction: str | None = None) -> Iterator[str]:
    """Yield, for each of the first `count` rows that are not skipped, the row and its prompt, or its error."""
    for mapped in job.columns.rows(job.table):
        if mapped.skipped:
            continue
        if count <= 0:
            return
        count -= 1
        head = f"Row {mapped.source.number}, line {mapped.source.line}"
        try:
            if mapped.error or mapped.row is None:
                raise mapped.error or InputError("The row is empty.")
            question = job.task.question(mapped.row, instruction=instruction)
        except InputError as error:
            yield f"{head}: {error}"
            continue
        prompt = envelope.prompt(question.instruction, question.text, question.options)
        yield f"{head}: {json.dumps(mapped.row, ensure_ascii=False, default=str)}\n\n{prompt}"
