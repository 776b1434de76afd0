"""Reads RSS and Atom feeds, such as those for Google Merchant Center, as tables.

Each item of the feed becomes a row, and the item's elements become cells. The column of a nested element begins with
its parent's name, as in `g:shipping.g:price`. If an element occurs several times in an item, its columns are numbered,
as in `g:additional_image_link (2)`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, cast

from ecellm_lite.errors import InputError
from ecellm_lite.tables.extras import library
from ecellm_lite.tables.row import CELL_CHARACTERS, Table, TableRow
from ecellm_lite.tables.source import Source

_ITEM_CHARACTERS = 16 << 20
_DEEPEST = 16  # how deep elements may be nested in an item
_MOST = 1000  # elements that an item may have
_SAMPLE = 300
_GOOGLE = "http://base.google.com/ns/1.0"


@dataclass(slots=True, kw_only=True)
class Feed(Table):
    """An RSS or Atom feed as a table. Each item is a row, whose columns are the item's own XML elements.

    `columns`: the columns of the first items or, after a call of `all_columns`, of all items.
    """

    items: Iterator[TableRow]
    first: list[TableRow]

    def rows(self) -> Iterator[TableRow]:
        """Yield the feed's items as rows."""
        while self.first:
            yield self.first.pop(0)
        yield from self.items

    def all_columns(self) -> tuple[str, ...]:
        """Return the columns of all items. This reads the whole feed; `rows` still begins with the first item."""
        file = self.source.seekable()
        columns: dict[str, None] = {}
        for row in _items(file, self.name):
            columns.update(dict.fromkeys(row.cells))
        self.source.restart(file)
        self.first, self.items = [], _items(self.source.stream, self.name)
        self.columns = tuple(columns)
        return self.columns


def open_feed(source: Source) -> Feed:
    """Return a feed as a table. Raises InputError if the feed has no items."""
    items = _items(source.stream, source.name)
    first = list(islice(items, _SAMPLE))
    if not first:
        raise InputError(f"{source.name} is XML without an item", step="give an RSS or Atom feed, or another table")
    if first[0].error:
        raise first[0].error
    columns = tuple(dict.fromkeys(column for row in first for column in row.cells))
    return Feed(
        source=source,
        columns=columns,
        description=f"{source.name}: feed; {len(columns)} columns",
        items=items,
        first=first,
    )


def _items(file: IO[bytes], name: str) -> Iterator[TableRow]:
    etree = library("lxml.etree", "An RSS or Atom feed")
    reader = etree.iterparse(
        io.BufferedReader(_Pieces(file)),
        events=("end",),
        tag=("item", "entry", "{*}entry", "{*}item"),
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        recover=True,
        huge_tree=False,
    )
    number, line = 0, 0
    try:
        for _, item in reader:
            number += 1
            line = item.sourceline or line
            yield _row(item, number, line)
            item.clear()
            while item.getprevious() is not None:
                del item.getparent()[0]
    except (etree.XMLSyntaxError, InputError) as error:
        reason = error if isinstance(error, InputError) else f"{name} is damaged after item {number} ({error})"
        damage = reason if isinstance(reason, InputError) else InputError(reason, step="fetch it again", line=line)
        yield TableRow(number + 1, line, {}, damage)


class _Pieces(io.RawIOBase):
    """Lets lxml read a file, but not close it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        block = self._file.read(len(view))
        view[: len(block)] = block
        return len(block)


def _row(item: Any, number: int, line: int) -> TableRow:
    cells: dict[str, Any] = {}
    error = None
    size = 0
    for name, text in islice(_elements(item, ""), _MOST):
        column, count = name, 2
        while column in cells:
            column, count = f"{name} ({count})", count + 1
        cells[column] = text[:CELL_CHARACTERS]
        size += len(text)
        if len(text) > CELL_CHARACTERS or size > _ITEM_CHARACTERS:
            error = InputError(
                f"Line {line}, {column!r}, has more than {CELL_CHARACTERS:,} characters",
                step="shorten it", field=column, line=line,
            )  # fmt: skip
    return TableRow(number, line, cells, error)


def _elements(element: Any, prefix: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    for child in element:
        if not isinstance(child.tag, str):  # a comment
            continue
        name = prefix + _name(child)
        text = "".join(child.xpath("text()"))
        if text.strip() or len(child) == 0:
            yield name, text.strip() if len(child) else text
        if depth < _DEEPEST:
            yield from _elements(child, f"{name}.", depth + 1)


def _name(element: Any) -> str:
    """Return an element's name with its namespace prefix. The prefix for Google's namespace is always `g:`."""
    namespace, _, local = cast(str, element.tag).rpartition("}")
    if namespace == f"{{{_GOOGLE}":
        return f"g:{local}"
    return f"{element.prefix}:{local}" if element.prefix else local
