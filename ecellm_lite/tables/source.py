"""Reads the bytes of a table from a file or standard input, and decompresses gzip and zstd.

The bytes are read once. Only the first bytes are kept in memory, to detect the file's type. A decompression bomb (a
small file that decompresses to far more bytes than a table would have) is refused while it is read.
"""

from __future__ import annotations

import codecs
import gzip
import io
import sys
import tempfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from ecellm_lite.errors import InputError
from ecellm_lite.tables.extras import library

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HEAD = 1 << 20
"""How many bytes are used to detect a file's type, encoding, delimiter and header."""

_BEGIN = 8  # how many bytes show whether and how a file is compressed
_AHEAD = 64 << 20  # how far after the head to search for bytes that are not ASCII

UNPACKED_ALWAYS = 256 << 20
UNPACKED_RATIO = 500
"""A file that grows by a larger factor is refused: gzip can reach 1,032, a catalogue of nearly equal rows about 100."""

_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_DAMAGED = (EOFError, OSError, zlib.error, ValueError)


class Source:
    """The decompressed bytes of an open table.

    `stream`: reads the table from its beginning.
    `head`: the first bytes of the table. For JSON Lines from a pipe, these are only the bytes that have arrived so far,
      so that the first rows can be answered at once.
    `whole`: whether `head` has the whole table.
    """

    def __init__(self, raw: IO[bytes], name: str, size: int | None) -> None:
        self.name = name
        self._raw = raw
        self._size = size
        self._copies: list[IO[bytes]] = []
        self._counter = _Counter(raw)
        begin = _begin(self._counter)
        packed = io.BufferedReader(_Joined(begin, self._counter, None), HEAD)
        self.packing = next((form for magic, form in _PACKED.items() if begin.startswith(magic)), None)
        stream: Any = packed
        if self.packing == "gzip":
            stream = gzip.GzipFile(fileobj=packed)
        elif self.packing == "zstd":
            stream = _zstd().ZstdFile(packed)
        rest = io.BufferedReader(_UnpackedFile(stream, self._counter, name)) if self.packing else stream
        self.head, self.whole, damage = _head(rest)
        self._begin(_Joined(self.head, rest, damage), None if self.packing else size)

    @property
    def share(self) -> float | None:
        """The fraction of the file that has been read, from 0 to 1, or None for a pipe."""
        position = self.stream.tell()
        if self._length:
            return min(1.0, position / self._length)
        unpacked = max(len(self.head), self._joined.count)
        if not (self._size and unpacked):
            return None
        return min(1.0, self._counter.count / self._size) * position / unpacked

    def seekable(self) -> IO[bytes]:
        """Return all bytes as a seekable file: the file itself, or a temporary copy on disk."""
        if not self.packing and self._size is not None:
            self._raw.seek(0)
            return self._raw
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the source
        self._copies.append(copy)
        while block := self.stream.read(HEAD):
            copy.write(block)
        copy.seek(0)
        return copy

    def beyond_ascii(self) -> bytes:
        """Return a part of the file that is not ASCII, to detect the encoding if `head` is ASCII.

        The 64 MiB after `head` are searched block by block for a byte that is not ASCII. The result is the block with
        the first such byte, without the lines before the byte's line. It is empty if there is no such byte, or if the
        table is a compressed file or a pipe.
        """
        if self.packing or self._size is None:
            return b""
        place = self._raw.seek(0, io.SEEK_CUR)
        try:
            self._raw.seek(len(self.head))
            for _ in range(_AHEAD // HEAD):
                block = self._raw.read(HEAD)
                if not block or not block.isascii():
                    first = next((at for at, byte in enumerate(block) if byte > 127), 0)
                    return block[block.rfind(b"\n", 0, first) + 1 :]
        finally:
            self._raw.seek(place)
        return b""

    def restart(self, file: IO[bytes]) -> None:
        """Make `stream` read from the beginning of the table again.

        `file` must be the file that `seekable` returned.
        """
        length = file.seek(0, io.SEEK_END)
        file.seek(0)
        self._begin(_Joined(b"", file, None), length)

    def _begin(self, joined: _Joined, length: int | None) -> None:
        self._joined = joined
        self._length = length  # bytes in the whole stream, if known
        self.stream: io.BufferedReader = io.BufferedReader(joined, HEAD)

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._raw.fileno()

    def close(self) -> None:
        """Close the file and its temporary copies. Standard input stays open."""
        for copy in self._copies:
            copy.close()
        if self._raw is not getattr(sys.stdin, "buffer", None):
            self._raw.close()


def open_source(path: Path | str) -> Source:
    """Open a file, or standard input if the path is `-`. Raises InputError if the file cannot be read."""
    if str(path) == "-":
        if not sys.stdin:
            raise InputError("Standard input is closed", step="give the table as a file")
        return Source(cast("IO[bytes]", sys.stdin.buffer), "standard input", None)
    path = Path(path)
    try:
        raw = path.open("rb", buffering=0)
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        return Source(cast("IO[bytes]", raw), path.name, path.stat().st_size if path.is_file() else None)
    except BaseException as error:
        raw.close()
        if isinstance(error, OSError):
            raise _unreadable(path, error) from None
        raise


class _Counter(io.RawIOBase):
    """Wraps a file, and counts the bytes that are read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        # read() on a pipe would wait until the buffer is full.
        self._read = getattr(file, "read1", file.read)
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        block = self._read(len(view)) or b""
        view[: len(block)] = block
        self.count += len(block)
        return len(block)


class _UnpackedFile(io.RawIOBase):
    """A file's decompressed bytes. Raises InputError if the file is damaged or is a decompression bomb."""

    def __init__(self, file: IO[bytes], packed: _Counter, name: str) -> None:
        self._file = file
        self._packed = packed
        self._name = name
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        try:
            block = self._file.read1(len(view))  # type: ignore[attr-defined]  # read() would drop the bytes before the damage
        except _DAMAGED as error:
            raise _damaged(self._name, error) from None
        except Exception as error:  # zstd's error class exists only if zstd is installed
            if type(error).__name__ != "ZstdError":
                raise
            raise _damaged(self._name, error) from None
        view[: len(block)] = block
        self._count += len(block)
        if self._count > UNPACKED_ALWAYS and self._count > UNPACKED_RATIO * self._packed.count:
            raise InputError(
                f"{self._name} unpacks to more than {UNPACKED_RATIO} times its size, which no table does",
                step="unpack it yourself if you trust it",
                file=self._name,
            )
        return len(block)


class _Joined(io.RawIOBase):
    """A file that consists of the bytes `head` and the contents of the file `rest`.

    If `damage` is an error, `rest` is not read: the error is raised after `head`.
    """

    def __init__(self, head: bytes, rest: IO[bytes] | io.RawIOBase, damage: InputError | None) -> None:
        self._head = memoryview(head)
        self._read = getattr(rest, "read1", rest.read)
        self._damage = damage
        self.count = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.count

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        if not self._head and self._damage:
            raise self._damage
        block = self._head[: len(view)] if self._head else memoryview(self._read(len(view)) or b"")
        self._head = self._head[len(view) :]
        view[: len(block)] = block
        self.count += len(block)
        return len(block)


def _begin(file: io.RawIOBase) -> bytes:
    """Return the first _BEGIN bytes. They are read in a loop, because a pipe may deliver one byte at a time."""
    begin = b""
    while len(begin) < _BEGIN and (block := file.read(_BEGIN - len(begin))):
        begin += block
    return begin


def _head(file: Any) -> tuple[bytes, bool, InputError | None]:
    """Return the first bytes, whether they are the whole file, and the error that stopped the reading (or None)."""
    blocks: list[bytes] = []
    size = 0
    try:
        while size < HEAD:
            block = file.read1(HEAD - size)
            if not block:
                return b"".join(blocks), True, None
            blocks.append(block)
            size += len(block)
            if blocks[0].removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{"):
                break
    except InputError as damage:
        if not blocks:
            raise
        return b"".join(blocks), False, damage
    return b"".join(blocks), False, None


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        return library("compression.zstd", "A zstd file")
    return library("backports.zstd", "A zstd file")


def _unreadable(path: Path, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    return InputError(f"{path} cannot be read ({reason})", step="give the path of a table", file=str(path))


def _damaged(name: str, error: Exception) -> InputError:
    return InputError(f"{name} is damaged or cut off ({error})", step="fetch it again", file=name)
