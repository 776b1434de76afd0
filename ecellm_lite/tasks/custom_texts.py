"""The answer types `text`, `schema` and `grammar` of a user's task file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ecellm_lite.answers import structured
from ecellm_lite.answers.text import MAX_TOKENS, Text
from ecellm_lite.errors import GrammarError
from ecellm_lite.tasks.custom_answers import Answers, one_key_error, same_for_rows
from ecellm_lite.tasks.fields import Field, shown
from ecellm_lite.tasks.table import TaskTable, read_file

LONGEST_ANSWER = 1 << 16  # tokens


def text(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    """Return the answers of the type `text`: free text. Raises InputError if `table` is invalid."""
    table.only("type", "max_tokens")
    space = Text(table.number("max_tokens", least=1, most=LONGEST_ANSWER, default=MAX_TOKENS))
    description = f"Free text of at most {space.max_tokens:,} tokens."
    return replace(same_for_rows(description, fields, space), free_text=space)


def schema(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    """Return the answers of the type `schema`: JSON that fits a schema. Raises InputError if `table` is invalid."""
    table.only("type", "schema", "file", "max_tokens")
    key = _source_key(table, "schema")
    definition: Any = table.value(key)
    if key == "file":
        try:
            definition = json.loads(_read_beside(table))
        except (ValueError, RecursionError) as error:
            raise table.error(key, f"is not JSON ({error})", "correct the file") from None
    if not isinstance(definition, Mapping):
        raise table.error(key, f"is {shown(definition)}", "write an object of JSON Schema")
    return _structured(table, fields, key, "JSON by the task's schema.", partial(structured.schema, definition))


def grammar(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    """Return the answers of the type `grammar`: a text that fits a grammar. Raises InputError if `table` is invalid."""
    table.only("type", "grammar", "file", "max_tokens")
    key = _source_key(table, "grammar")
    rules = _read_beside(table) if key == "file" else table.text(key, most=1 << 16, lines=True)
    return _structured(table, fields, key, "Text by the task's grammar.", partial(structured.grammar, rules))


def _source_key(table: TaskTable, key: str) -> str:
    if (key in table) == ("file" in table):
        raise one_key_error(table, key, "file")
    return key if key in table else "file"


def _read_beside(table: TaskTable) -> str:
    return read_file(table.path_beside("file"), "a schema or grammar")


def _structured(
    table: TaskTable, fields: tuple[Field, ...], key: str, description: str, make: Callable[..., structured.Structured]
) -> Answers:
    most = table.number("max_tokens", least=1, most=LONGEST_ANSWER, default=structured.MAX_TOKENS)
    try:
        return same_for_rows(description, fields, make(max_tokens=most))
    except GrammarError as error:
        raise table.error(key, f"is refused ({error.message})", error.step or "correct it") from None
