"""The table [answer] of a user's task file: the possible answers.

| type | its keys | the answer's value |
|---|---|---|
| predicate | | true or false |
| choice | choices, or the key labels; none (optional) | a value |
| labels | choices; at_least, at_most, threshold (optional) | a list of values |
| score | levels: 2 to 10 texts, the lowest first | the position, 1 for the lowest, weighted by probability |
| ranking | over: the list field whose items are ranked | the items' letters, A for the first item, best first |
| extraction | attributes: texts, or attributes_from: a list field | an entry for each attribute, from the text fields |
| text | max_tokens (optional) | a text |
| schema | schema: a table, or file: a JSON file beside the task's; max_tokens (optional) | a JSON value |
| grammar | grammar: GBNF or Lark, or file; max_tokens (optional) | a text |

`choices` are 2 to 255 tables with the keys value and description (optional). For the type `labels`, a choice may have a
threshold of its own, too. In place of `choices`, the type `choice` may have the key `labels`: a table that names a file
(see label_files). With `labels`, the keys `best` and `detours` are allowed too.

In the prompt, levels have letters, as ECInstruct's options do, and the model answers with the letter. The options of a
choice have letters too, if there are at most 26 with "none" included. With more, the prompt lists them without letters,
and the model answers with the value itself. For the type `labels`, the model is asked yes or no for each label.

If the labels of a choice are too many for the prompt, the prompt does not contain them. A search then finds the most
probable labels, at most `best` of them. `detours` limits how long the search may take (see label_search). With a
`shortlist` in the file's table, the prompt contains the labels that are most similar to the row's texts. The answer may
still be any label.

`none = true` adds the answer "none" to a choice, for rows that no label fits (see answers/none_of_these). `none =
"other"` adds this answer with the text "other". If the prompt lists labels, this answer is the last in the list.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from string import ascii_uppercase
from typing import Any

from ecellm_lite.answers import structured
from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.label_set import BEST, DETOURS, Labels, LabelSet
from ecellm_lite.answers.none_of_these import ChoiceOrNone, LabelSetOrNone, OrNone
from ecellm_lite.answers.options import Option
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.answers.score import Score
from ecellm_lite.answers.several_labels import NONE, THRESHOLD, SeveralLabels
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.text import MAX_TOKENS, Text
from ecellm_lite.errors import GrammarError, InputError
from ecellm_lite.tasks.attributes import Attribute, AttributesField, extraction, listed_values, read_attributes
from ecellm_lite.tasks.fields import Field, TextField, TextsField, shown
from ecellm_lite.tasks.label_files import Label, read_labels
from ecellm_lite.tasks.nearest import Nearest, check_installed
from ecellm_lite.tasks.table import TaskTable, read_file
from ecellm_lite.tasks.task import Wire
from ecellm_lite.tasks.wire import LONGEST_OPTIONS

MAX_CHOICES = 255
MAX_DETOURS = 1000
MAX_BEST = 20
MAX_SHORTLIST = 100
MAX_LEVELS = 10
MAX_ATTRIBUTES = 100
LONGEST_LABEL = 200  # characters
LONGEST_ANSWER = 1 << 16  # tokens

# The key of the attributes in the input, as in ECInstruct.
TARGET = "target attributes"

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the table [answer] of a task's file defines.

    `description`: the possible answers, in words.
    `fields`: the task's fields. The answer type may have added limits to them.
    `write`: turns the fields of a row into the strings of the prompt.
    `read`: takes the strings `input` and `options` of a row in the wire format, and returns the answer space.
    `free_text`: the answer space, if the task answers in free text.
    `subject`: the list field that the answers refer to, such as the products to rank. It is never shortened.
    """

    description: str
    fields: tuple[Field, ...]
    write: Callable[[Row], Wire]
    read: Callable[[str, str | None], Space]
    free_text: Text | None = None
    subject: str | None = None


def answers_of(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    """Return the answers that the table [answer] defines.

    A wrong table raises an InputError with the name of the wrong key.
    """
    kind = table.text("type", most=20)
    if kind not in _KINDS:
        raise table.error("type", f"is {kind!r}", f"write one of {', '.join(_KINDS)}")
    return _KINDS[kind](table, fields)


def _predicate(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    table.only("type")
    return _same("yes or no.", fields, Predicate())


def _choice(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    table.only("type", "choices", "labels", "detours", "best", "none")
    if ("choices" in table) == ("labels" in table):
        raise _one_of(table, "choices", "labels")
    labels, shortlist = _of_file(table.table("labels")) if "labels" in table else (_choices(table), 0)
    detours = table.number("detours", least=0, most=MAX_DETOURS, default=DETOURS)
    best = table.number("best", least=1, most=MAX_BEST, default=BEST)
    none = _none(table, labels)
    values = [label.value for label in labels]
    named = [*values[:26], *(["…"] if len(values) > 26 else []), *([none] if none else [])]
    description = f"One of {', '.join(named)}."
    listed = [*labels, Label(none, none)] if none else labels
    lettered = len(listed) <= len(ascii_uppercase)
    lines = [f"{label.text}: {label.description}" if label.description else label.text for label in listed]
    options = _lettered(lines) if lettered else _json(lines)
    if len(labels) <= MAX_CHOICES and len(options) <= LONGEST_OPTIONS:
        texts = ascii_uppercase if lettered else [label.text for label in listed]
        offered = tuple(map(Option, [label.value for label in listed], texts, lines))
        space = ChoiceOrNone(offered[:-1], offered[-1]) if none else Choice(offered)
        return _same(description, fields, space, options)
    if "labels" in table:
        label_set = Labels(values, [label.text for label in labels])
        all_labels = (
            LabelSetOrNone(label_set, detours, best, Option(none, none)) if none else LabelSet(label_set, detours, best)
        )
        if shortlist:
            return _with_shortlist(description, fields, all_labels, labels, shortlist)
        return _same(description, fields, all_labels)
    raise _too_long(table, options)


def _of_file(table: TaskTable) -> tuple[list[Label], int]:
    """Return the labels in a file, and the length of the shortlist (0 for none)."""
    return read_labels(table), table.number("shortlist", least=0, most=MAX_SHORTLIST, default=0)


def _none(table: TaskTable, labels: Sequence[Label]) -> str | None:
    """Return the text of the task's answer "none of these labels", or None if the task has no such answer.

    Raises InputError if the text is also one of `labels`.
    """
    if "none" not in table or table.value("none") is False:
        return None
    none = NONE if table.value("none") is True else table.text("none", most=LONGEST_LABEL)
    if any(none.casefold() in (label.value.casefold(), label.text.casefold()) for label in labels):
        raise table.error("none", f"is {none!r}, which is a label too", "write another word, or remove the label")
    return none


def _with_shortlist(
    description: str, fields: tuple[Field, ...], space: LabelSet, labels: Sequence[Label], count: int
) -> Answers:
    """Return Answers for a task with too many labels for a prompt.

    The prompt lists the `count` labels that are most similar to the row's texts.
    """
    check_installed()
    nearest = Nearest([f"{label.text} {label.description}" for label in labels])
    none = [space.none_option.text] if isinstance(space, OrNone) else []

    def write(row: Row) -> Wire:
        parts = (row[field.name] for field in fields if field.name in row)
        text = " ".join(part if isinstance(part, str) else " ".join(part) for part in parts)
        near = [labels[place].text for place in nearest.find(text, count)]
        return Wire(_input(fields, row), _json([*near, *none]) if near else None, space)

    def read(text: str, options: str | None) -> Space:
        return space

    return Answers(description, fields, write, read)


def _labels(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    table.only("type", "choices", "at_least", "at_most", "threshold")
    threshold = table.share("threshold", default=THRESHOLD)
    parts = table.tables("choices", least=2, most=MAX_CHOICES)
    values, lines, thresholds = [], [], []
    for part in parts:
        part.only("value", "description", "threshold")
        value = part.text("value", most=LONGEST_LABEL)
        if "," in value or value.casefold() == NONE:
            raise part.error("value", f"is {value!r}", f"write a label without a comma, and not {NONE!r}")
        values.append(value)
        description = part.text("description", most=LONGEST_LABEL, default="")
        lines.append(f"{value}: {description}" if description else value)
        thresholds.append(part.share("threshold", default=threshold))
    table.require_unique("choices", tuple(value.casefold() for value in values))
    options = _json(lines)
    if len(options) > LONGEST_OPTIONS:
        raise _too_long(table, options)
    at_least = table.number("at_least", least=0, most=len(values), default=0)
    at_most = table.number("at_most", least=max(1, at_least), most=len(values), default=len(values))
    several = f"Any of {', '.join(values[:26])}{', …' if len(values) > 26 else ''}"
    description = f"{several}." if at_least else f"{several}, or {NONE}."
    return _same(description, fields, SeveralLabels(tuple(values), tuple(thresholds), at_least, at_most), options)


def _choices(table: TaskTable) -> list[Label]:
    labels: list[Label] = []
    for part in table.tables("choices", least=2, most=MAX_CHOICES):
        part.only("value", "description")
        value = part.text("value", most=LONGEST_LABEL)
        labels.append(Label(value, value, part.text("description", most=LONGEST_LABEL, default="")))
    table.require_unique("choices", tuple(label.value for label in labels))
    return labels


def _score(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    table.only("type", "levels")
    levels = table.texts("levels", least=2, most=MAX_LEVELS, longest=LONGEST_LABEL)
    description = f"A place between 1 ({levels[0]}) and {len(levels)} ({levels[-1]})."
    return _same(description, fields, Score(levels, tuple(ascii_uppercase[: len(levels)])), _lettered(levels))


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
        return Wire(_json({**row, over: lines}), None, Ranking(letters, tuple(lines)))

    return Answers(f"All letters of {over}, best first, A for the first item.", fields, write, _no_wire, subject=over)


def _extraction(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    table.only("type", "attributes", "attributes_from")
    if ("attributes" in table) == ("attributes_from" in table):
        raise _one_of(table, "attributes", "attributes_from")
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
        reason = f"is extraction, which writes the attributes as {TARGET!r}, and that is a field here"
        raise table.error("type", reason, "rename the field")

    def write(row: Row) -> Wire:
        attributes: tuple[Attribute, ...] = row[names_field] if names_field else of_all_rows
        others = {name: value for name, value in row.items() if name != names_field}
        text = json.dumps({**others, TARGET: " and ".join(attribute.name for attribute in attributes)})
        sources = {name: row[name] for name in texts if name in row}
        return Wire(text, listed_values(attributes), extraction(attributes, sources, {name: name for name in texts}))

    description = "For each attribute a span of one of the texts with its source, or none."
    return Answers(description, fields, write, _no_wire, subject=names_field)


def _text(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    table.only("type", "max_tokens")
    space = Text(table.number("max_tokens", least=1, most=LONGEST_ANSWER, default=MAX_TOKENS))
    description = f"Free text of at most {space.max_tokens:,} tokens."
    return replace(_same(description, fields, space), free_text=space)


def _schema(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
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


def _grammar(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    table.only("type", "grammar", "file", "max_tokens")
    key = _source_key(table, "grammar")
    text = _read_beside(table) if key == "file" else table.text(key, most=1 << 16, lines=True)
    return _structured(table, fields, key, "Text by the task's grammar.", partial(structured.grammar, text))


_KINDS: dict[str, Callable[[TaskTable, tuple[Field, ...]], Answers]] = {
    "predicate": _predicate,
    "choice": _choice,
    "labels": _labels,
    "score": _score,
    "ranking": _ranking,
    "extraction": _extraction,
    "text": _text,
    "schema": _schema,
    "grammar": _grammar,
}


def _same(description: str, fields: tuple[Field, ...], space: Space, options: str | None = None) -> Answers:
    """Return the Answers of a task whose answer space and options are the same for every row."""

    def write(row: Row) -> Wire:
        return Wire(_input(fields, row), options, space)

    def read(text: str, options: str | None) -> Space:
        return space

    return Answers(description, fields, write, read)


def _input(fields: Sequence[Field], row: Row) -> str:
    if len(fields) == 1 and isinstance(fields[0], TextField):
        text: str = row[fields[0].name]
        return text
    return _json(row)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _no_wire(text: str, options: str | None) -> Space:
    message = "This task's answers depend on a row's fields, which a row in the data set's form does not have"
    raise InputError(message, step="give the row's fields")


def _lettered(lines: Sequence[str]) -> str:
    return _json([f"{letter}: {line}" for letter, line in zip(ascii_uppercase, lines, strict=False)])


def _list_field(table: TaskTable, key: str, fields: Sequence[Field]) -> str:
    name = table.text(key, most=64)
    if not any(isinstance(field, TextsField) and field.name == name and field.required for field in fields):
        raise table.error(key, f"is {name!r}", "name a required field with `list = true`")
    return name


def _source_key(table: TaskTable, key: str) -> str:
    if (key in table) == ("file" in table):
        raise _one_of(table, key, "file")
    return key if key in table else "file"


def _read_beside(table: TaskTable) -> str:
    return read_file(table.path_beside("file"), "a schema or grammar")


def _structured(
    table: TaskTable, fields: tuple[Field, ...], key: str, description: str, make: Callable[..., structured.Structured]
) -> Answers:
    most = table.number("max_tokens", least=1, most=LONGEST_ANSWER, default=structured.MAX_TOKENS)
    try:
        return _same(description, fields, make(max_tokens=most))
    except GrammarError as error:
        raise table.error(key, f"is refused ({error.message})", error.step or "correct it") from None


def _too_long(table: TaskTable, options: str) -> InputError:
    step = f"shorten them to at most {LONGEST_OPTIONS:,}"
    return table.error("choices", f"has {len(options):,} characters in all", step)


def _one_of(table: TaskTable, key: str, other: str) -> InputError:
    reason = f"is given as well as {other}" if key in table else "is missing"
    return table.error(key, reason, f"give either {key} or {other}")
