"""Category_Classification (CC): which category does a product belong to? A task of CASLIE, not of ECInstruct.

CASLIE's repository shows the form of the input, but neither the instruction nor an example of the options. So we wrote
the instruction and chose the form of the options ourselves. If you have CASLIE's data set, send its instruction with
each request, or send rows in the data set's form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

from ecellm_lite.answers.choice import Choice, lettered
from ecellm_lite.tasks.captions import KEY, NAME
from ecellm_lite.tasks.fields import CAPTION, TextField, TextsField
from ecellm_lite.tasks.task import Task, Wire
from ecellm_lite.tasks.wire import read_options


def _write(row: Mapping[str, Any]) -> Wire:
    options = [f"{letter}: {name}" for letter, name in zip(ascii_uppercase, row["categories"], strict=False)]
    text = json.dumps({"title": row["title"], KEY: row.get(NAME)})
    return Wire(text, json.dumps(options), lettered(options, whole=False))


def _read(text: str, options: str | None) -> Choice:
    return lettered(read_options(options), whole=False)


TASK = Task(
    name="category_classification",
    hub_name="Category_Classification",
    abbreviation="CC",
    summary="Choose a product's category.",
    answers="The letter of one of the categories, A for the first.",
    instruction=(
        "Given the title of a product, choose the product's category from the listed options. "
        "Answer from one of the options."
    ),
    fields=(
        TextField("title", "The product's title.", "Northpoint M310 wireless mouse, black"),
        TextsField(
            "categories", "The categories to choose from.", ["Computer mice", "Keyboards", "Headsets"], least=2, most=26
        ),
        CAPTION,
    ),
    write=_write,
    read=_read,
)
