"""Reads the objects of a JSON array one by one, with limits on their size and depth.

ECInstruct's dataset.json is such an array. If an object cannot be read, the objects before it are still yielded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BufferedReader
from typing import Any

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tables.json_lines import LONGEST_LINE

DEEPEST = 64  # nested objects and lists in a row of an array

MARK = b"\xef\xbb\xbf"


def array_rows(file: BufferedReader) -> Iterator[tuple[int, Mapping[str, Any] | InputError]]:
    """Yield each object of a JSON array with its number, from 1. Only one object at a time is in memory.

    For an item that cannot be read, an InputError is yielded in place of the object.
    """
    try:
        import ijson
    except ImportError:
        raise UsageError("A JSON array needs ijson to be read", step="run `pip install 'ecellm-lite[eval]'`") from None
    if file.peek(3).startswith(MARK):
        file.read(len(MARK))
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
