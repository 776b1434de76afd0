"""Computes the bytes of a bundle's archive: a ZIP64 file with uncompressed entries.

Headers follow PKWARE's APPNOTE 6.3.10: sections 4.3.7 (local header), 4.3.12 (central directory) and 4.3.14 to 4.3.16
(end of central directory). Sizes and offsets are always written in the ZIP64 fields, every file has the time
1980-01-01, and names are UTF-8. So all bytes except the files' data can be computed from the list of entries.

The program that checks a bundle does not parse the archive. It computes these bytes from the index, and compares them
with the bytes of the archive.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

LOCAL = struct.Struct("<IHHHHHIIIHH")  # then the name and _LOCAL_SIZES
_LOCAL_SIZES = struct.Struct("<HHQQ")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_CENTRAL_SIZES = struct.Struct("<HHQQQ")
_END_64 = struct.Struct("<IQHHIIQQQQ")
_LOCATOR = struct.Struct("<IIQI")
_END = struct.Struct("<IHHHHIIH")

LOCAL_MAGIC = 0x04034B50
_VERSION = 45  # the first with ZIP64
_MADE_BY = 3 << 8 | _VERSION  # Unix, so that unzip keeps the modes
_UTF8 = 1 << 11
_DATE = 1 << 5 | 1
_REGULAR = 0o100000
_SEE_64 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in an archive: its name, size, CRC-32 and mode."""

    name: str
    size: int
    crc32: int
    mode: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of an archive.

    `headers`: for each entry, the offset and the bytes of its local header.
    `offsets`: for each entry, the offset of its data.
    `tail`: the offset and the bytes of everything after the entries.
    `size`: the size of the archive in bytes.
    """

    entries: Sequence[Entry]
    headers: Sequence[tuple[int, bytes]]
    offsets: Sequence[int]
    tail: tuple[int, bytes]
    size: int


def layout(entries: Sequence[Entry], start: int) -> Layout:
    """Return the layout of an archive with these entries. The archive begins at byte `start` of its file."""
    headers, offsets, directory = [], [], []
    place = start
    for entry in entries:
        header = local_header(entry)
        headers.append((place, header))
        directory.append(_central_header(entry, place))
        offsets.append(place + len(header))
        place += len(header) + entry.size
    tail = b"".join(directory)
    tail += _end(len(entries), len(tail), place)
    return Layout(entries, headers, offsets, (place, tail), place + len(tail))


def local_header(entry: Entry) -> bytes:
    """Return an entry's local header: the ZIP header that precedes the entry's data."""
    name = entry.name.encode("utf-8")
    sizes = _LOCAL_SIZES.pack(1, _LOCAL_SIZES.size - 4, entry.size, entry.size)
    fixed = LOCAL.pack(LOCAL_MAGIC, _VERSION, _UTF8, 0, 0, _DATE, entry.crc32, _SEE_64, _SEE_64, len(name), len(sizes))
    return fixed + name + sizes


def header_size(name: str) -> int:
    """Return the size in bytes of the local header of an entry with this name."""
    return LOCAL.size + len(name.encode("utf-8")) + _LOCAL_SIZES.size


def read_local_header(header: bytes, name: str) -> Entry | None:
    """Return the entry that a local header describes, or None if `local_header` could not have written this header."""
    if len(header) != header_size(name):
        return None
    crc32 = LOCAL.unpack_from(header)[6]
    size = _LOCAL_SIZES.unpack_from(header, len(header) - _LOCAL_SIZES.size)[2]
    entry = Entry(name, size, crc32, 0o644)
    return entry if local_header(entry) == header else None


def _central_header(entry: Entry, place: int) -> bytes:
    name = entry.name.encode("utf-8")
    sizes = _CENTRAL_SIZES.pack(1, _CENTRAL_SIZES.size - 4, entry.size, entry.size, place)
    mode = (_REGULAR | entry.mode) << 16
    fixed = _CENTRAL.pack(
        0x02014B50, _MADE_BY, _VERSION, _UTF8, 0, 0, _DATE, entry.crc32, _SEE_64, _SEE_64,
        len(name), len(sizes), 0, 0, 0, mode, _SEE_64,
    )  # fmt: skip
    return fixed + name + sizes


def _end(count: int, size: int, place: int) -> bytes:
    """Return the end of the archive: the ZIP64 end record, its locator, and the end record of the older format.

    `count`: the number of entries. `size`, `place`: the size and the offset of the central directory.
    """
    end = _END_64.pack(0x06064B50, _END_64.size - 12, _MADE_BY, _VERSION, 0, 0, count, count, size, place)
    locator = _LOCATOR.pack(0x07064B50, 0, place + size, 1)
    return end + locator + _END.pack(0x06054B50, 0, 0, 0xFFFF, 0xFFFF, _SEE_64, _SEE_64, 0)
