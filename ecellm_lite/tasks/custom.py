"""A user's own task: a TOML file with an instruction, the fields of a row, and the possible answers.

    name = "support_routing"
    summary = "Send a support mail to the right desk."
    instruction = "Given a customer's mail, choose the desk that should answer it. Answer only from the options."

    [[fields]]
    name = "mail"
    doc = "The customer's mail."
    example = "My parcel never came."

    [answer]
    type = "choice"
    choices = [{ value = "billing", description = "invoices and refunds" }, { value = "delivery" }]

A field must have a `name`. The other keys of a field are optional: `doc`, `example`, `required = false`, `list = true`
(a list of texts), and `long = true` (the field may be shortened). For the table [answer], see answer_types. For
worked examples, see example_files.

The envelope of the prompt is the same as in the ten tasks. The text of a single field is inserted unchanged. Several
fields become one JSON object.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ecellm_lite.tasks.answer_types import answers_of
from ecellm_lite.tasks.example_files import read_examples
from ecellm_lite.tasks.fields import Field, TextField, TextsField
from ecellm_lite.tasks.shortening import Words
from ecellm_lite.tasks.table import TaskTable
from ecellm_lite.tasks.task import Task

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9 _-]{0,63}")

LONGEST_INSTRUCTION = 4000  # characters; the longest of the ten has 330
LONGEST_LINE = 200
LONGEST_EXAMPLE = 2000
MAX_FIELDS = 32
MAX_EXAMPLES = 26


def read_task(path: Path, reserved: Collection[str] = ()) -> Task:
    """Return the task that a TOML file describes. The task's name must not be one of `reserved`.

    Raises InputError, which names the file and the wrong key.
    """
    table = TaskTable.read(path)
    table.only("name", "summary", "instruction", "fields", "answer", "examples")
    name = table.text("name", most=64)
    if not NAME.fullmatch(name):
        raise table.error("name", f"is {name!r}", "write lower-case letters, digits and '_', a letter first")
    if name in reserved:
        raise table.error("name", f"is {name!r}, which is a built-in task", "choose another name")
    summary = table.text("summary", most=LONGEST_LINE)
    instruction = table.text("instruction", most=LONGEST_INSTRUCTION, lines=True)
    parts = table.tables("fields", least=1, most=MAX_FIELDS, first="name")
    fields = tuple(map(_field, parts))
    table.require_unique("fields", tuple(field.name for field in fields))
    if not any(field.required for field in fields):
        raise table.error("fields", "has no required field", "make at least one required")
    answers = answers_of(table.table("answer", first="type"), fields)
    long = [field.name for field, part in zip(fields, parts, strict=True) if part.flag("long", default=False)]
    if answers.subject in long:
        raise table.error("answer", f"uses the field {answers.subject!r}, which must not be cut", "remove its key long")
    task = Task(
        name=name,
        hub_name="",
        abbreviation="",
        summary=summary,
        answers=answers.description,
        instruction=instruction,
        fields=answers.fields,
        write=answers.write,
        read=answers.read,
        free_text=answers.free_text,
        long=(Words(tuple(long)),) if long else (),
        source=path,
    )
    return replace(task, examples=read_examples(table, task)) if "examples" in table else task


def files_beside(path: Path) -> list[str]:
    """Return the paths of the files that a task's TOML file names.

    The paths are normalized, and relative to the folder of the TOML file.

    Call `read_task` first, which checks the TOML file.
    """
    table = TaskTable.read(path)
    examples = table.value("examples") if "examples" in table else None
    # A list of examples names no files: a key `file` in it is a field of the task.
    files = [*_files(table.value("answer")), *(_files(examples) if isinstance(examples, Mapping) else [])]
    return [str(PurePosixPath(name)) for name in files]


def _files(value: object) -> Iterator[str]:
    """Yield the value of each key `file`, at any depth. The value of a key `schema` is not searched."""
    if isinstance(value, Mapping):
        if isinstance(value.get("file"), str):
            yield value["file"]
        for key, part in value.items():
            if key != "schema":
                yield from _files(part)
    elif isinstance(value, list):
        for part in value:
            yield from _files(part)


def _field(table: TaskTable) -> Field:
    table.only("name", "doc", "example", "required", "list", "long")
    name = table.text("name", most=64)
    if not _FIELD.fullmatch(name) or name == "id":
        step = "write letters, digits, spaces, '_' and '-', a letter first, and not 'id'"
        raise table.error("name", f"is {name!r}", step)
    doc = table.text("doc", most=LONGEST_LINE, default=f"The {name}.")
    required = table.flag("required", default=True)
    if not table.flag("list", default=False):
        return TextField(name, doc, table.text("example", most=LONGEST_EXAMPLE, lines=True, default="..."), required)
    examples: tuple[str, ...] = ("...",)
    if "example" in table:
        examples = table.texts("example", least=1, most=MAX_EXAMPLES, longest=LONGEST_EXAMPLE)
    return TextsField(name, doc, list(examples), required)
