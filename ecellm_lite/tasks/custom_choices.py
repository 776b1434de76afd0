"""The answer types `choice` and `labels` of a user's task file.

`choices` are 2 to 255 tables with the keys value and description (optional). For the type `labels`, each table may also
have the key threshold. In place of `choices`, the type `choice` may have the key `labels`: a table that names a file
(see label_files). With `labels`, the keys `best` and `detours` are allowed too.

In the prompt, the options of a choice have letters, as ECInstruct's options do, and the model answers with the letter.
If there are more than 26 options (including "none"), the prompt lists them without letters, and the model answers with
the value itself. For the type `labels`, the model is asked yes or no for each label.

If a choice has too many labels for the prompt, the prompt does not contain them. A search then finds the most probable
labels, at most `best` of them. `detours` limits how long the search may take (see label_search). If the table `labels`
has the key `shortlist`, the prompt contains the labels that are most similar to the row's texts. The answer may still
be any label.

`none = true` adds the answer "none" to a choice, for rows that no label fits (see answers/none_of_these). `none =
"other"` adds this answer with the text "other". If the prompt lists labels, this answer is the last in the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.label_set import BEST, DETOURS, Labels, LabelSet
from ecellm_lite.answers.none_of_these import ChoiceOrNone, LabelSetOrNone, OrNone
from ecellm_lite.answers.options import Option
from ecellm_lite.answers.several_labels import NONE, THRESHOLD, SeveralLabels
from ecellm_lite.answers.space import Space
from ecellm_lite.errors import InputError
from ecellm_lite.tasks.custom_answers import (
    LONGEST_LABEL,
    Answers,
    Row,
    input_text,
    json_text,
    lettered,
    one_key_error,
    same_for_rows,
)
from ecellm_lite.tasks.fields import Field
from ecellm_lite.tasks.label_files import Label, read_labels
from ecellm_lite.tasks.nearest import Nearest, check_installed
from ecellm_lite.tasks.table import TaskTable
from ecellm_lite.tasks.task import Wire
from ecellm_lite.tasks.wire import LONGEST_OPTIONS

MAX_CHOICES = 255
MAX_DETOURS = 1000
MAX_BEST = 20
MAX_SHORTLIST = 100


def choice(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    """Return the answers of the type `choice`: one of the choices in `table`, or one of the labels in a file.

    Raises InputError if `table` is invalid, and UsageError if a shortlist is wanted and bm25s is not installed.
    """
    table.only("type", "choices", "labels", "detours", "best", "none")
    if ("choices" in table) == ("labels" in table):
        raise one_key_error(table, "choices", "labels")
    labels, shortlist = _of_file(table.table("labels", first="file")) if "labels" in table else (_choices(table), 0)
    detours = table.number("detours", least=0, most=MAX_DETOURS, default=DETOURS)
    best = table.number("best", least=1, most=MAX_BEST, default=BEST)
    none = _none(table, labels)
    values = [label.value for label in labels]
    named = [*values[:26], *(["…"] if len(values) > 26 else []), *([none] if none else [])]
    description = f"One of {', '.join(named)}."
    listed = [*labels, Label(none, none)] if none else labels
    has_letters = len(listed) <= len(ascii_uppercase)
    lines = [f"{label.text}: {label.description}" if label.description else label.text for label in listed]
    options = lettered(lines) if has_letters else json_text(lines)
    if len(labels) <= MAX_CHOICES and len(options) <= LONGEST_OPTIONS:
        texts = ascii_uppercase if has_letters else [label.text for label in listed]
        offered = tuple(map(Option, [label.value for label in listed], texts, lines))
        space = ChoiceOrNone(offered[:-1], offered[-1]) if none else Choice(offered)
        return same_for_rows(description, fields, space, options)
    if "labels" in table:
        label_set = Labels(values, [label.text for label in labels])
        all_labels = (
            LabelSetOrNone(label_set, detours, best, Option(none, none)) if none else LabelSet(label_set, detours, best)
        )
        if shortlist:
            return _with_shortlist(description, fields, all_labels, labels, shortlist)
        return same_for_rows(description, fields, all_labels)
    raise _too_long(table, options)


def _of_file(table: TaskTable) -> tuple[list[Label], int]:
    """Return the labels in a file, and the value of `shortlist` (0 if it is missing).

    `shortlist` is how many labels each prompt lists. They are those most similar to the row.
    """
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
        return Wire(input_text(fields, row), json_text([*near, *none]) if near else None, space)

    def read(text: str, options: str | None) -> Space:
        return space

    return Answers(description, fields, write, read)


def several_labels(table: TaskTable, fields: tuple[Field, ...]) -> Answers:
    """Return the answers of the type `labels`: any of the choices. Raises InputError if `table` is invalid."""
    table.only("type", "choices", "at_least", "at_most", "threshold")
    threshold = table.share("threshold", default=THRESHOLD)
    parts = table.tables("choices", least=2, most=MAX_CHOICES, first="value")
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
    table.require_unique("choices", tuple(values))
    options = json_text(lines)
    if len(options) > LONGEST_OPTIONS:
        raise _too_long(table, options)
    at_least = table.number("at_least", least=0, most=len(values), default=0)
    at_most = table.number("at_most", least=max(1, at_least), most=len(values), default=len(values))
    several = f"Any of {', '.join(values[:26])}{', …' if len(values) > 26 else ''}"
    description = f"{several}." if at_least else f"{several}, or {NONE}."
    return same_for_rows(
        description, fields, SeveralLabels(tuple(values), tuple(thresholds), at_least, at_most), options
    )


def _choices(table: TaskTable) -> list[Label]:
    labels: list[Label] = []
    for part in table.tables("choices", least=2, most=MAX_CHOICES, first="value"):
        part.only("value", "description")
        value = part.text("value", most=LONGEST_LABEL)
        labels.append(Label(value, value, part.text("description", most=LONGEST_LABEL, default="")))
    table.require_unique("choices", tuple(label.value for label in labels))
    return labels


def _too_long(table: TaskTable, options: str) -> InputError:
    step = f"shorten them to at most {LONGEST_OPTIONS:,}"
    return table.error("choices", f"has {len(options):,} characters in all", step)
