"""Parses the strings `input` and `options` of a row in ECInstruct's own form."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping
from typing import Any

from ecellm_lite.errors import InputError

# Python's parser needs about 500 times a literal's size in memory.
LONGEST_OPTIONS = 1 << 16  # characters

_STEP = 'write them as a list, for example ["A: first", "B: second"]'


def read_object(text: str) -> Mapping[str, Any]:
    """Return the JSON object in an input string. Raises InputError if the string is not a JSON object."""
    message = f"The input {text[:60]!r} is not a JSON object"
    step = "write it as the data set does for this task"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{message} ({error})", step=step, field="input") from None
    if not isinstance(value, Mapping):
        raise InputError(message, step=step, field="input")
    return value


def read_options(options: str | None) -> list[str]:
    """Return the items of a list that is written as a text, in JSON or in Python's notation.

    Raises InputError for any other text.
    """
    if options is None:
        raise InputError("This task needs options, and the row has none", step=_STEP, field="options")
    if len(options) > LONGEST_OPTIONS:
        message = f"The options have {len(options):,} characters"
        raise InputError(message, step=f"give at most {LONGEST_OPTIONS:,}", field="options")
    try:
        lines = json.loads(options)
    except (ValueError, RecursionError):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an unknown escape in a title does not concern the user
                lines = ast.literal_eval(options)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            lines = None
    if not isinstance(lines, list) or not lines or not all(isinstance(line, str) for line in lines):
        raise InputError(f"The options {options[:60]!r} are not a list of texts", step=_STEP, field="options")
    return lines
