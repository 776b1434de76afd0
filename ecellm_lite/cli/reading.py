"""Reads an option's value: a row as JSON, a file's name, or `-` for standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tasks.written import read_json

if TYPE_CHECKING:
    from ecellm_lite.answers.space import Space
    from ecellm_lite.tasks.task import Task

_EXAMPLE = 'give an object such as \'{"review": "I like it"}\''


def read_row(value: str) -> Mapping[str, Any]:
    """Return the row in the value of `--input`, which is JSON or the name of a file with JSON."""
    if not value.strip():
        raise InputError("--input is empty", step=f"{_EXAMPLE}, or a file")
    text = value if value.lstrip().startswith(("{", "[")) else _read_text(value, "--input")
    try:
        row = read_json(text)
    except (ValueError, RecursionError) as error:
        step = f"{_EXAMPLE}; give a file of many rows with --rows"
        raise InputError(f"The row is not JSON ({error})", step=step) from None
    if not isinstance(row, Mapping):
        raise InputError(
            "The row is not an object", step="give many rows with --rows, as a file of one object per line"
        )
    return row


def read_space(
    task: Task, schema: Path | None, grammar: Path | None, max_tokens: int | None, temperature: float
) -> Space | None:
    """Return the answer set that the options define, or None if no option defines one."""
    if schema is None and grammar is None and max_tokens is None and temperature == 0:
        return None
    if schema is not None and grammar is not None:
        raise UsageError("Give --schema or --grammar, not both.")
    if schema is None and grammar is None:
        if task.free_text is None:
            message = f"--max-tokens and --temperature are for free text, but {task.name} has no free-text answers"
            raise UsageError(message, step="leave them out")
        return replace(task.free_text, max_tokens=max_tokens or task.free_text.max_tokens, temperature=temperature)
    from ecellm_lite.answers import structured

    bounds: dict[str, Any] = {"max_tokens": max_tokens or structured.MAX_TOKENS, "temperature": temperature}
    if grammar is not None:
        return structured.grammar(_read_text(str(grammar), "--grammar"), **bounds)
    try:
        definition = json.loads(_read_text(str(schema), "--schema"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"The schema {schema} is not JSON ({error}).") from None
    if not isinstance(definition, Mapping):
        raise InputError(f"The schema {schema} is {type(definition).__name__}, not an object.")
    return structured.schema(definition, **bounds)


def _read_text(path: str, option: str) -> str:
    if path == "-" and not sys.stdin:
        raise InputError("Standard input is closed", step="give a file")
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"The file {path} given to {option} is not UTF-8 ({error.reason})"
        raise InputError(message, step="write it as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path[:80]!r} given to {option} is not a readable file ({reason}).") from None
