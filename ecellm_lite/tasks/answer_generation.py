"""Answer_Generation (AG): answer a question from the given documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ecellm_lite.answers.text import Text as FreeText
from ecellm_lite.tasks.answerability_prediction import FIELDS, LONG, input_text
from ecellm_lite.tasks.task import Task, Wire


def _write(row: Mapping[str, Any]) -> Wire:
    return Wire(input_text(row), None, FreeText())


def _read(text: str, options: str | None) -> FreeText:
    return FreeText()


TASK = Task(
    name="answer_generation",
    hub_name="Answer_Generation",
    abbreviation="AG",
    summary="Answer a question from documents.",
    answers="Free text of at most 100 tokens.",
    instruction=(
        "Given a question and the related document, and generate the answer to the question based on the information "
        "provided in the document."
    ),
    fields=FIELDS,
    write=_write,
    read=_read,
    long=LONG,
    free_text=FreeText(),
)
