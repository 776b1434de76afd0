"""Answerability_Prediction (AP): can a question be answered from the given documents?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.tasks.captions import with_caption
from ecellm_lite.tasks.fields import CAPTION, TextField, TextsField
from ecellm_lite.tasks.shortening import Words
from ecellm_lite.tasks.task import Task, Wire

FIELDS = (
    TextField("question", "The question.", "Does it fit a 15 inch laptop?"),
    TextsField(
        "documents", "Snippets of reviews or descriptions.", ["My 15 inch laptop slides in with room to spare."]
    ),
)
LONG = (Words(("documents",)),)


def input_text(row: Mapping[str, Any]) -> str:
    """Return the `input` string for a question and its documents. The task answer_generation uses the same string."""
    return json.dumps(with_caption({"question": row["question"], "document": list(row["documents"])}, row))


def _write(row: Mapping[str, Any]) -> Wire:
    return Wire(input_text(row), None, Predicate())


def _read(text: str, options: str | None) -> Predicate:
    return Predicate()


TASK = Task(
    name="answerability_prediction",
    hub_name="Answerability_Prediction",
    abbreviation="AP",
    summary="Tell whether documents hold the answer to a question.",
    answers="yes or no.",
    instruction=(
        "Given a question and the related document, predict if the question is answerable based on the information "
        "provided in the document. Output only yes or no."
    ),
    fields=(*FIELDS, CAPTION),
    write=_write,
    read=_read,
    long=LONG,
)
