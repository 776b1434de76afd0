"""Files of labelled rows: JSON Lines, a table, a folder of such files, or ECInstruct's dataset.json.

Files are read row by row. A folder has a file TASK/SPLIT.jsonl, or a table such as TASK/SPLIT.csv, for each task (see
tables/labelled_table.py). dataset.json is a JSON array or JSON Lines. Each of its rows names its split (such as `test`)
and its setting (such as `IND_Diverse_Instruction`). Only the rows of one split and one setting are read. An unusable
row does not stop the reading. Its line is reported with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.evaluate.labelled import Labelled, dataset_keys, labelled, task_of
from ecellm_lite.evaluate.results import DataFile, Unreadable
from ecellm_lite.models.files import sha256_of
from ecellm_lite.tables.json_lines import LONGEST_LINE, check_form
from ecellm_lite.tables.labelled_table import LabelledOptions, labelled_file, labelled_rows
from ecellm_lite.tasks.fields import shown
from ecellm_lite.tasks.task import Task

SPLIT = "test"
SETTING = "IND_Diverse_Instruction"  # of the paper's main table

DEEPEST = 64  # nested objects and lists in a row of an array

_MARK = b"\xef\xbb\xbf"


@dataclass(slots=True)
class LabelledFile:
    """A file of labelled rows.

    `task`: the task of all its rows, or None if each row names its own task.
    `options`: how a table is read.
    """

    path: Path
    name: str
    task: Task | None = None
    options: LabelledOptions = field(default_factory=LabelledOptions)
    settings: set[str] = field(default_factory=set)  # all that its rows have

    def rows(
        self, tasks: Sequence[Task], split: str = SPLIT, setting: str = SETTING
    ) -> Iterator[Labelled | tuple[Task | None, Unreadable]]:
        """Yield the rows of these tasks. For each unreadable line, yield a pair (task, Unreadable).

        The task in the pair is None if it is not known. Raises InputError if the file cannot be read or has another
        format.
        """
        expected = self.task or (tasks[0] if len(tasks) == 1 else None)
        own = {task.name: task for task in tasks if task.source}
        for line, row in self._numbered(expected):
            if isinstance(row, InputError):
                yield expected, Unreadable(line, str(row))
                continue
            task = expected
            keys = dataset_keys(row, expected)
            try:
                if self._is_unselected(keys, split, setting):  # whatever its task is
                    continue
                task = self._task(keys, own) or expected
                if task and task.name not in {chosen.name for chosen in tasks}:
                    continue
                _check_places(keys)
                yield labelled(_checked_task(task), line, row)
            except InputError as error:
                yield task, Unreadable(line, str(error))

    def _numbered(self, task: Task | None) -> Iterator[tuple[int, Mapping[str, Any] | InputError]]:
        with _opened(self.path) as file:
            begin = file.peek(1 << 12).removeprefix(_MARK).lstrip()
            if begin.startswith(b"["):
                yield from _array(file)
                return
            if self.path.suffix == ".jsonl":
                check_form(file, str(self.path))
        if begin:
            yield from labelled_rows(self.path, task, self.options)

    def _task(self, keys: Mapping[str, Any], own: Mapping[str, Task]) -> Task | None:
        task = task_of(keys, own)
        if self.task and task and task.name != self.task.name:
            raise InputError(f"The row's task is {task.name}, but its file is for {self.task.name}.")
        return task

    def _is_unselected(self, keys: Mapping[str, Any], split: str, setting: str) -> bool:
        """Return whether a row belongs to a split or setting that was not asked for. Also notes the row's setting.

        `keys`: the row's keys `task`, `split` and `setting`.
        """
        if isinstance(keys.get("setting"), str):
            self.settings.add(keys["setting"])
        selection = {"split": split, "setting": setting}
        return any(isinstance(keys.get(key), str) and keys[key] != value for key, value in selection.items())

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
    """

    rows: dict[str, list[Labelled]]
    unreadable: dict[str | None, list[Unreadable]]


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
    for file in files:
        for entry in file.rows(tasks, split, setting):
            if isinstance(entry, Labelled):
                spreads.setdefault(entry.task.name, Spread(limit)).add(entry)
            else:
                task, line = entry
                unreadable.setdefault(task.name if task else None, []).append(line)
        settings |= file.settings
    if not spreads and not unreadable:
        choices = f" (its settings are {', '.join(sorted(settings)[:12])})" if settings else ""
        task_names = tasks[0].name if len(tasks) == 1 else "the ten tasks"
        raise InputError(
            f"There is no row of {task_names} with the split {split!r} and the setting {setting!r}{choices}",
            step="name the task, split and setting of the rows",
            settings=("tasks", "split", "setting"),
        )
    ordered = [task.name for task in tasks]
    return LabelledRows({name: spreads[name].chosen() for name in ordered if name in spreads}, unreadable)


class Spread:
    """Chooses at most `limit` rows of a stream, at equal distances. It keeps at most 2 * `limit` rows in memory."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._rows: list[Labelled] = []
        self._count = 0
        self._stride = 1

    def add(self, row: Labelled) -> None:
        """Take the next row of the stream, and keep it in memory if it is far enough from the last kept row."""
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


def _array(file: BufferedReader) -> Iterator[tuple[int, Mapping[str, Any] | InputError]]:
    """Yield each object of a JSON array with its number, from 1. Only one object at a time is in memory.

    For an item that cannot be read, an InputError is yielded in place of the object.
    """
    try:
        import ijson
    except ImportError:
        raise UsageError("A JSON array needs ijson to be read", step="run `pip install 'ecellm-lite[eval]'`") from None
    if file.peek(3).startswith(_MARK):
        file.read(len(_MARK))
    bounded = _Bounded(file)
    try:
        # Not ijson.items: it builds the whole path of each value, which takes gigabytes for a deep array.
        for row in _items(ijson.basic_parse(bounded, use_float=True), ijson.ObjectBuilder, bounded):
            number = bounded.rows
            if isinstance(row, Mapping):
                yield number, row
            else:
                yield number, InputError(f"Row {number} is not an object.")
    except InputError as error:
        yield bounded.rows + 1, error
    except (ijson.JSONError, ValueError) as error:
        number = bounded.rows + 1
        what = " ".join(str(error).split())[:100]
        yield number, InputError(f"Row {number} is not JSON ({what}), and the rows after it are lost.")


class _Bounded:
    """A file of rows. A row much longer than LONGEST_LINE bytes is refused.

    The length is checked before each block is read, so a row may exceed the limit by one block.
    """

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self._read = 0
        self.rows = 0  # complete ones

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes. Raises InputError if the current row is too long."""
        if self._read > LONGEST_LINE:
            raise InputError(
                f"Row {self.rows + 1} has more than {LONGEST_LINE:,} bytes, and the rows after it are lost",
                step="split or shorten the row",
            )
        data = self._file.read(size)
        self._read += len(data)
        return data

    def ended(self) -> None:
        """Count the row as complete, and start the next one."""
        self._read = 0
        self.rows += 1


def _items(events: Iterable[tuple[str, Any]], builder: Callable[[], Any], bounded: _Bounded) -> Iterator[Any]:
    """Build the items of a JSON array from ijson's events, and yield each. `builder` makes an ijson.ObjectBuilder.

    Raises InputError for an item that is nested too deeply.
    """
    depth = 0
    item = None
    for event, value in events:
        depth -= event.startswith("end_")
        if depth:  # it is 0 at the array's own start and end
            item = item or builder()
            item.event(event, value)
        depth += event.startswith("start_")
        if depth > DEEPEST + 1:
            raise InputError(
                f"Row {bounded.rows + 1} is nested more than {DEEPEST} deep, and the rows after it are lost",
                step="give fields that are texts, numbers and lists of them",
            )
        if item and depth == 1:
            bounded.ended()
            yield item.value
            item = None
