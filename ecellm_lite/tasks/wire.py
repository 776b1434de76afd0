"""Reading back strings that are in the data set's wire format."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping
from typing import Any

from ecellm_lite.errors import InputError

# Python's parser takes some 500 times a literal's size in memory.
LONGEST_OPTIONS = 1 << 16  # characters


def read_object(text: str) -> Mapping[str, Any]:
    """Return the object that an input string holds as JSON, or raise InputError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"The input {text[:60]!r} is not the JSON object this task has in the data set ({error})."
        ) from None
    if not isinstance(value, Mapping):
        raise InputError(f"The input {text[:60]!r} is not a JSON object, as this task has it in the data set.")
    return value


def read_options(options: str | None) -> list[str]:
    """Return the option lines of an options string, a JSON list or a Python one, or raise InputError."""
    if options is None:
        raise InputError(
            'This task needs options: give them as in the data set, for example \'["A: first", "B: second"]\'.'
        )
    if len(options) > LONGEST_OPTIONS:
        raise InputError(f"The options have {len(options):,} characters, and at most {LONGEST_OPTIONS:,} are read.")
    try:
        lines = json.loads(options)
    except (ValueError, RecursionError):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an unknown escape in a title is no concern of a user's
                lines = ast.literal_eval(options)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            lines = None
    if not isinstance(lines, list) or not lines or not all(isinstance(line, str) for line in lines):
        raise InputError(f'The options {options[:60]!r} are not a list of texts, as \'["A: first", "B: second"]\' is.')
    return lines
