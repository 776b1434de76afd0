"""Sentiment_Analysis (SA): how positive is a review of a product?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ecellm_lite.answers.choice import Choice, lettered
from ecellm_lite.tasks.captions import NAME, with_caption
from ecellm_lite.tasks.fields import CAPTION, TextField
from ecellm_lite.tasks.shortening import Words
from ecellm_lite.tasks.task import Task, Wire
from ecellm_lite.tasks.wire import read_options

OPTIONS = ("A: very positive", "B: positive", "C: neutral", "D: negative", "E: very negative")


def _write(row: Mapping[str, Any]) -> Wire:
    # The review itself, not JSON, unless there is a caption.
    text = json.dumps(with_caption({"review": row["review"]}, row)) if NAME in row else row["review"]
    return Wire(text, json.dumps(OPTIONS), lettered(OPTIONS, whole=True))


def _read(text: str, options: str | None) -> Choice:
    return lettered(read_options(options), whole=True)


TASK = Task(
    name="sentiment_analysis",
    hub_name="Sentiment_Analysis",
    abbreviation="SA",
    summary="Tell the sentiment of a review.",
    answers="A (very positive) to E (very negative).",
    instruction=(
        "Given the user's review, identify the user's sentiment from the listed options. "
        "Answer using one of the options."
    ),
    fields=(
        TextField("review", "The review's text.", "Easy to set up and quiet, but the lid feels flimsy."),
        CAPTION,
    ),
    write=_write,
    read=_read,
    long=(Words(("review",)),),
)
