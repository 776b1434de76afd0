"""The answers of labelled rows, checked and in the form that a model writes."""

from __future__ import annotations

import json
from typing import Any

from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.spans import NONE
from ecellm_lite.errors import InputError
from ecellm_lite.tasks.fields import encodable, shown


def read_label(space: Space, output: str) -> str:
    """Return the answer that is learned from a row's output.

    White space around the output is removed, and lone surrogates become U+FFFD, as in the row's fields. An extraction
    gets the form that a model writes, with attributes in lower case and "None" for a missing value.

    Raises InputError for a blank output and for one that is not an answer of `space`, the row's answer space.
    """
    answer = encodable(output).strip()
    if not answer:
        raise InputError("its output is blank", step="write the right answer there", field="output")
    space.parse(answer)
    return _extraction(space, json.loads(answer)) if isinstance(space, Extraction) else answer


def _extraction(space: Extraction, entries: list[dict[str, Any]]) -> str:
    names = [name.lower() for name in space.attributes]
    for entry in entries:
        name = entry["attribute"]
        if not isinstance(name, str) or name.lower() not in names:
            raise InputError(
                f"its output has the attribute {shown(name)}",
                step=f"give only values of {', '.join(space.attributes)}",
                field="output",
            )
        for key in ("value", "source"):
            if not isinstance(entry[key], str | None):
                raise InputError(
                    f"its output has the {key} {shown(entry[key])}", step="write a text or null", field="output"
                )
    return json.dumps(
        [
            {
                "attribute": entry["attribute"].lower(),
                "value": entry["value"] or NONE.value,
                "source": (entry["value"] and entry["source"]) or NONE.source,
            }
            for entry in entries
        ]
    )
