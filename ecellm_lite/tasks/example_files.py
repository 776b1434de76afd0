"""The worked examples of a user's task, in the task's file or in a file beside it. Neither file is trusted.

    [[examples]]
    input = { mail = "My parcel never came." }
    output = "delivery"

There are at most 32 examples. `input` has the task's fields; if the task has a single text field, `input` may be the
text alone. `output` is an answer of the task.

The examples may also be in a file of their own:

    examples = { file = "examples.jsonl", nearest = 4 }

Each line is a JSON object in the form of a labelled row. It has the task's fields, at the top level or under the key
`input`, and `output`. With `nearest = 4`, each row's prompt gets the 4 examples that are most similar to the row.
`nearest` may be up to 32, and the file may then have up to 10,000 examples. Without `nearest`, each prompt gets all
examples of the file, and the file may have at most 32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecellm_lite.envelopes import WorkedExample
from ecellm_lite.errors import EcellmError, InputError, UsageError
from ecellm_lite.tasks.fields import TextField, encodable, shown
from ecellm_lite.tasks.nearest import check_installed
from ecellm_lite.tasks.table import TaskTable, read_file
from ecellm_lite.tasks.worked_examples import WorkedExamples
from ecellm_lite.tasks.written import read_json

if TYPE_CHECKING:
    from ecellm_lite.tasks.task import Task

MOST = 32  # examples that a prompt may have
MOST_IN_FILE = 10_000
MAX_BYTES = 64 << 20

# Makes an error of a key, of what is wrong with its value, and of what to do.
Refuse = Callable[[str, str, str], InputError]


def read_examples(table: TaskTable, task: Task) -> WorkedExamples:
    """Return the examples of a task. `table` is the task's file, which has the key `examples`.

    Raises InputError that names the wrong key or line.
    """
    if isinstance(table.value("examples"), Mapping):
        return _from_file(table.table("examples", first="file"), task)
    examples = []
    for entry in table.tables("examples", least=1, most=MOST, first="input"):
        entry.only("input", "output")
        examples.append(_example(task, _row(entry, task), entry.value("output"), entry.error))
    return WorkedExamples(examples)


def _row(entry: TaskTable, task: Task) -> Mapping[str, Any]:
    value = entry.value("input")
    if isinstance(value, str) and len(task.fields) == 1 and isinstance(task.fields[0], TextField):
        return {task.fields[0].name: value}
    entry.table("input", first=task.fields[0].name).only(*(field.name for field in task.fields))
    row: Mapping[str, Any] = value
    return row


def _from_file(table: TaskTable, task: Task) -> WorkedExamples:
    table.only("file", "nearest")
    path = table.path_beside("file")
    nearest = table.number("nearest", least=1, most=MOST, default=MOST) if "nearest" in table else None
    if nearest:
        try:
            check_installed()
        except UsageError as error:
            raise table.error("nearest", f"cannot be used ({error.message})", error.step or "") from None
    most = MOST if nearest is None else MOST_IN_FILE
    examples: list[WorkedExample] = []
    for line, row in _lines(path):

        def refuse(key: str, reason: str, step: str, line: int = line) -> InputError:
            return _line_error(path, line, f"{key} {reason}", step, field=key)

        if len(examples) == most:
            step = f"give at most {most:,}" + ("" if nearest else ", or choose some of them for each row by `nearest`")
            raise _line_error(path, line, f"is example {most + 1:,}", step)
        if "output" not in row:
            raise refuse("output", "is missing", "add the right answer")
        examples.append(_example(task, row, row["output"], refuse))
    if not examples:
        raise table.error("file", "has no examples", "write one in each line")
    return WorkedExamples(examples, nearest)


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    text = read_file(path, "the file of examples", most=MAX_BYTES)
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            row = read_json(content)
        except (ValueError, RecursionError) as error:
            raise _line_error(path, line, f"is not JSON ({error})", "correct it there") from None
        if not isinstance(row, dict):
            raise _line_error(path, line, f"is {shown(row)}", "write an object with the row's fields and its output")
        yield line, row


def _line_error(path: Path, line: int, reason: str, step: str, field: str | None = None) -> InputError:
    return InputError(f"{path}: line {line:,} {reason}", step=step, field=field, line=line, file=str(path))


def _example(task: Task, row: Mapping[str, Any], output: object, refuse: Refuse) -> WorkedExample:
    """Check that an example fits its task, and return it.

    If the example is invalid, raises the exception that `refuse` returns.
    """
    try:
        question = task.question(row)
    except EcellmError as error:
        raise refuse("input", f"is not a row of the task ({error.message})", error.step or "correct it") from None
    if question.values is None:
        raise refuse("input", f"is {shown(question.text)}", "write an object with the task's fields")
    if not isinstance(output, str | list):
        raise refuse("output", f"is {shown(output)}", "write the right answer as a text, or as a list of labels")
    try:
        answer = encodable(question.space.written(output))
        question.space.parse(answer)
    except EcellmError as error:
        reason = f"is {shown(output)}, which is not an answer of the task ({error.message})"
        raise refuse("output", reason, error.step or "correct it") from None
    return WorkedExample(question.text, question.options, answer)
