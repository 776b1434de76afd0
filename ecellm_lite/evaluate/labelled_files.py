"""Files of labelled rows: JSON Lines, a table, a folder of such files, or ECInstruct's dataset.json.

Files are read row by row. A folder has a file TASK/SPLIT.jsonl, or a table such as TASK/SPLIT.csv, for each task (see
tables/labelled_table.py). dataset.json is a JSON array or JSON Lines. Each of its rows names its split (such as `test`)
and its setting (such as `IND_Diverse_Instruction`). Only the rows of one split and one setting are read. Rows that name
another task are left out and counted. An unusable row does not stop the reading. Its line is reported with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from ecellm_lite.errors import InputError
from ecellm_lite.evaluate.json_array import MARK, array_rows
from ecellm_lite.evaluate.labelled import Labelled, dataset_keys, labelled, task_of
from ecellm_lite.evaluate.results import DataFile, Unreadable
from ecellm_lite.models.files import sha256_of
from ecellm_lite.tables.json_lines import check_form
from ecellm_lite.tables.labelled_table import LabelledOptions, Selects, labelled_file, labelled_rows
from ecellm_lite.tasks.fields import shown
from ecellm_lite.tasks.task import Task

SPLIT = "test"
SETTING = "IND_Diverse_Instruction"  # of the paper's main table

_NAMED = 12  # names of other tasks in a sentence, at most


@dataclass(slots=True)
class LabelledFile:
    """A file of labelled rows.

    `task`: the task of all its rows, or None if each row names its own task.
    `options`: how a table is read.
    `settings`: all values of ECInstruct's key `setting` in its rows, such as `IND_Diverse_Instruction`.
    `others`: how many rows were left out because they name another task. The keys are those tasks' names.
    """

    path: Path
    name: str
    task: Task | None = None
    options: LabelledOptions = field(default_factory=LabelledOptions)
    settings: set[str] = field(default_factory=set)
    others: Counter[str] = field(default_factory=Counter)

    def rows(
        self, tasks: Sequence[Task], split: str = SPLIT, setting: str = SETTING
    ) -> Iterator[Labelled | tuple[Task | None, Unreadable]]:
        """Yield the rows of these tasks. For each unreadable line, yield a pair (task, Unreadable).

        The task in the pair is None if it is not known. Raises InputError if the file cannot be read or has another
        format.
        """
        expected = self.task or (tasks[0] if len(tasks) == 1 else None)
        chosen = {task.name: task for task in ([self.task] if self.task else tasks)}

        def selects(keys: Mapping[str, Any]) -> bool:
            return self._selects(keys, chosen, split, setting)

        for line, row in self._numbered(expected, selects):
            if isinstance(row, InputError):
                yield expected, Unreadable(line, str(row))
                continue
            task = expected
            keys = dataset_keys(row, expected)
            try:
                if not selects(keys):
                    continue
                task = cast("Task | None", task_of(keys, chosen)) or expected
                _check_places(keys)
                yield labelled(_checked_task(task), line, row)
            except InputError as error:
                yield task, Unreadable(line, str(error))

    def _numbered(self, task: Task | None, selects: Selects) -> Iterator[tuple[int, Mapping[str, Any] | InputError]]:
        with _opened(self.path) as file:
            begin = file.peek(1 << 12).removeprefix(MARK).lstrip()
            if begin.startswith(b"["):
                yield from array_rows(file)
                return
            if self.path.suffix == ".jsonl":
                check_form(file, str(self.path))
        if begin:
            yield from labelled_rows(self.path, task, self.options, selects)

    def _selects(self, keys: Mapping[str, Any], chosen: Mapping[str, Task], split: str, setting: str) -> bool:
        """Return whether a row belongs to the chosen tasks, the split and the setting.

        The row's setting is added to `self.settings`. If the row has the right split and setting, but another task, it
        is counted in `self.others`.

        `keys`: the row's keys `task`, `split` and `setting`. Raises InputError if the row's task is not a text.
        """
        if isinstance(keys.get("setting"), str):
            self.settings.add(keys["setting"])
        selection = {"split": split, "setting": setting}
        if any(isinstance(keys.get(key), str) and keys[key] != value for key, value in selection.items()):
            return False  # whatever its task is
        name = keys.get("task")
        other = name if isinstance(name, str) and name in self.others else task_of(keys, chosen)
        if isinstance(other, str):
            self.others[other] += 1
        return not isinstance(other, str)

    @property
    def hashed(self) -> DataFile:
        """The file's name and sha256. Raises InputError if the file cannot be read."""
        try:
            return DataFile(self.name, sha256_of(self.path))
        except OSError as error:
            raise _unread(self.path, error) from None


def labelled_files(
    path: Path, tasks: Sequence[Task], split: str = SPLIT, options: LabelledOptions | None = None
) -> list[LabelledFile]:
    """Return the files at a path: the file itself, or the files of a folder, such as TASK/SPLIT.jsonl.

    `options`: how a table is read. Raises InputError if there are no files.
    """
    options = options or LabelledOptions()
    try:
        folder, other = path.is_dir(), path.exists() and not path.is_file()
    except OSError as error:  # a name may be too long, or a folder closed to us
        raise _unread(path, error) from None
    if not folder:
        if other:
            raise InputError(f"{path} is a pipe or a device, but the rows must be read twice", step="use a file")
        return [LabelledFile(path, path.name, options=options)]
    files = [
        LabelledFile(file, f"{path.resolve().name}/{task.name}/{file.name}", task, options)
        for task in tasks
        if (file := labelled_file(path / task.name, split))
    ]
    if not files:
        others = ", and likewise for each task" if len(tasks) > 1 else ""
        raise InputError(f"The folder {path} has no rows", step=f"put them into {tasks[0].name}/{split}.jsonl{others}")
    return files


@dataclass(slots=True)
class LabelledRows:
    """The rows to evaluate, and the lines that could not be read, by task name.

    In `unreadable`, lines whose task is not known have the key None.

    `others`: how many rows were left out because they name another task. The keys are those tasks' names.
    """

    rows: dict[str, list[Labelled]]
    unreadable: dict[str | None, list[Unreadable]]
    others: Counter[str] = field(default_factory=Counter)

    @property
    def left_out(self) -> str | None:
        """A sentence that says how many rows of other tasks were left out, or None if there were none."""
        count = self.others.total()
        if not count:
            return None
        rows = "1 row of another task is" if count == 1 else f"{count:,} rows of other tasks are"
        return f"{rows} left out ({_names(self.others)})."


def gather(
    files: Iterable[LabelledFile],
    tasks: Sequence[Task],
    *,
    split: str = SPLIT,
    setting: str = SETTING,
    limit: int | None = None,
) -> LabelledRows:
    """Return the rows of files, at most `limit` of each task.

    If a task has more rows than `limit`, the chosen ones are spread evenly over the files. The same files give the same
    rows each time.

    `split`, `setting`: ECInstruct's names for parts of its data, such as `test` and `IND_Diverse_Instruction`. A row
      that names another split or setting is left out.

    Raises InputError if the files have neither a row of these tasks nor an unreadable line.
    """
    spreads: dict[str, Spread] = {}
    unreadable: dict[str | None, list[Unreadable]] = {}
    settings: set[str] = set()
    others: Counter[str] = Counter()
    for file in files:
        for entry in file.rows(tasks, split, setting):
            if isinstance(entry, Labelled):
                spreads.setdefault(entry.task.name, Spread(limit)).add(entry)
            else:
                task, line = entry
                unreadable.setdefault(task.name if task else None, []).append(line)
        settings |= file.settings
        others += file.others
    task_names = tasks[0].name if len(tasks) == 1 else "the ten tasks"
    if others and not spreads and not unreadable:
        raise InputError(
            f"There is no row of {task_names}, but of {_names(others)}",
            step="name the task of the rows",
            settings=("tasks",),
        )
    if not spreads and not unreadable:
        choices = f" (its settings are {', '.join(sorted(settings)[:12])})" if settings else ""
        raise InputError(
            f"There is no row of {task_names} with the split {split!r} and the setting {setting!r}{choices}",
            step="name the task, split and setting of the rows",
            settings=("tasks", "split", "setting"),
        )
    ordered = [task.name for task in tasks]
    return LabelledRows({name: spreads[name].chosen() for name in ordered if name in spreads}, unreadable, others)


class Spread:
    """Chooses at most `limit` rows of a stream, at equal distances. It keeps at most 2 * `limit` rows in memory."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._rows: list[Labelled] = []
        self._count = 0
        self._stride = 1

    def add(self, row: Labelled) -> None:
        """Take the next row. Only every n-th row is kept, and n doubles whenever too many rows are kept."""
        if self._count % self._stride == 0:
            self._rows.append(row)
            if self._limit and len(self._rows) > 2 * self._limit:
                self._rows = self._rows[::2]
                self._stride *= 2
        self._count += 1

    def chosen(self) -> list[Labelled]:
        """Return the chosen rows, in the order in which they were added."""
        rows = self._rows
        if not self._limit or len(rows) <= self._limit:
            return rows
        return [rows[place * len(rows) // self._limit] for place in range(self._limit)]


def _names(others: Counter[str]) -> str:
    """Return the names of tasks, the most frequent first, such as `routing, tone`. Long lists are cut."""
    names = [name[:80] for name, _ in others.most_common(_NAMED)]
    return ", ".join([*names, "…"] if len(others) > _NAMED else names)


def _checked_task(task: Task | None) -> Task:
    if task is None:
        raise InputError("The row names no task", step="give it one, or name one task for all", settings=("tasks",))
    return task


def _check_places(keys: Mapping[str, Any]) -> None:
    """Raise InputError if ECInstruct's field `split` or `setting` is not a text. Both may be null or missing."""
    for key in ("split", "setting"):
        if not isinstance(keys.get(key), str | None):
            raise InputError(f"The row's {key} is {shown(keys[key])}", step="give a text, or leave it out", field=key)


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise _unread(path, error) from None
    with file:
        yield file


def _unread(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be read ({error.strerror})", step="give a file of labelled rows")
