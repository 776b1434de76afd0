"""The table [answer] of a user's task file: the possible answers.

| type | its keys | the answer's value |
|---|---|---|
| predicate | | true or false |
| choice | choices, or labels: a table about a label file; none: adds the answer "none" (optional) | the chosen value |
| labels | choices; at_least, at_most, threshold (optional) | a list of values |
| score | levels: 2 to 10 texts, the lowest first | the mean of the levels' numbers, weighted by probability |
| ranking | over: the list field whose items are ranked | the items' letters, A for the first item, best first |
| extraction | attributes: texts, or attributes_from: a list field | an entry for each attribute, from the text fields |
| text | max_tokens (optional) | a text |
| schema | schema: a table, or file: a JSON file beside the task's file; max_tokens (optional) | a JSON value |
| grammar | grammar: GBNF or Lark, or file; max_tokens (optional) | a text |

Levels are numbered from 1 for the lowest. In the prompt, they have letters, as ECInstruct's options do, and the model
answers with the letter. The keys of choices and labels are explained in custom_choices.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from string import ascii_uppercase

from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.answers.score import Score
from ecellm_lite.answers.space import Space
from ecellm_lite.errors import InputError
from ecellm_lite.tasks.attributes import Attribute, AttributesField, extraction, listed_values, read_attributes
from ecellm_lite.tasks.custom_answers import (
    LONGEST_LABEL,
    Answers,
    Row,
    json_text,
    lettered,
    one_key_error,
    same_for_rows,
)
from ecellm_lite.tasks.custom_choices import choice, several_labels
from ecellm_lite.tasks.custom_texts import grammar, schema, text
from ecellm_lite.tasks.fields import Field, TextField, TextsField
from ecellm_lite.tasks.table import TaskTable
from ecellm_lite.tasks.task import Wire

MAX_LEVELS = 10
MAX_ATTRIBUTES = 100

# The key of the attributes in the input, as in ECInstruct.
TARGET = "target attributes"


def answers_of(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    """Return the answers that the table [answer] defines.

    Raises InputError that names the wrong key.
    """
    kind = table.text("type", most=20)
    if kind not in _KINDS:
        raise table.error("type", f"is {kind!r}", f"write one of {', '.join(_KINDS)}")
    return _KINDS[kind](table, fields)


def _predicate(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    table.only("type")
    return same_for_rows("yes or no.", fields, Predicate())


def _score(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    table.only("type", "levels")
    levels = table.texts("levels", least=2, most=MAX_LEVELS, longest=LONGEST_LABEL)
    description = f"A place between 1 ({levels[0]}) and {len(levels)} ({levels[-1]})."
    return same_for_rows(description, fields, Score(levels, tuple(ascii_uppercase[: len(levels)])), lettered(levels))


def _ranking(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    table.only("type", "over")
    over = _list_field(table, "over", fields)
    most = len(ascii_uppercase)
    fields = tuple(
        replace(field, most=most) if isinstance(field, TextsField) and field.name == over else field for field in fields
    )

    def write(row: Row) -> Wire:
        letters = tuple(ascii_uppercase[: len(row[over])])
        lines = [f"{letter}: {item}" for letter, item in zip(letters, row[over], strict=True)]
        return Wire(json_text({**row, over: lines}), None, Ranking(letters, tuple(lines)))

    return Answers(f"All letters of {over}, best first, A for the first item.", fields, write, _no_wire, subject=over)


def _extraction(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    table.only("type", "attributes", "attributes_from")
    if ("attributes" in table) == ("attributes_from" in table):
        raise one_key_error(table, "attributes", "attributes_from")
    of_all_rows: tuple[Attribute, ...] = ()
    names_field: str | None = None
    if "attributes" in table:
        of_all_rows = read_attributes(table, "attributes", most=MAX_ATTRIBUTES)
    else:
        names_field = _list_field(table, "attributes_from", fields)
        fields = tuple(
            AttributesField(each.name, each.doc, each.example, most=MAX_ATTRIBUTES)
            if isinstance(each, TextsField) and each.name == names_field
            else each
            for each in fields
        )
    texts = [field.name for field in fields if isinstance(field, TextField)]
    if not texts:
        raise table.error("type", "is extraction, and no field is a text", "add a text field to [[fields]]")
    if any(field.name == TARGET != names_field for field in fields):
        reason = f"is extraction, which writes the attributes under the key {TARGET!r}, but a field has this name"
        raise table.error("type", reason, "rename the field")

    def write(row: Row) -> Wire:
        attributes: tuple[Attribute, ...] = row[names_field] if names_field else of_all_rows
        others = {name: value for name, value in row.items() if name != names_field}
        text = json.dumps({**others, TARGET: " and ".join(attribute.name for attribute in attributes)})
        sources = {name: row[name] for name in texts if name in row}
        return Wire(text, listed_values(attributes), extraction(attributes, sources, {name: name for name in texts}))

    description = "For each attribute a span of one of the texts with its source, or none."
    return Answers(description, fields, write, _no_wire, subject=names_field)


def _no_wire(text: str, options: str | None) -> Space:
    message = "This task's answers depend on a row's fields, which a row in the data set's form does not have"
    raise InputError(message, step="give the row's fields")


def _list_field(table: TaskTable, key: str, fields: Sequence[Field]) -> str:
    name = table.text(key, most=64)
    if not any(isinstance(field, TextsField) and field.name == name and field.required for field in fields):
        raise table.error(key, f"is {name!r}", "name a required field with `list = true`")
    return name


_KINDS: dict[str, Callable[[TaskTable, tuple[Field, ...]], Answers]] = {
    "predicate": _predicate,
    "choice": choice,
    "labels": several_labels,
    "score": _score,
    "ranking": _ranking,
    "extraction": _extraction,
    "text": text,
    "schema": schema,
    "grammar": grammar,
}
