"""Opens a bundle and checks its signature and its bytes.

A bundle is a ZIP archive with a signed index. The signature of the index is checked first. The archive's ZIP headers
are computed from the index, and compared with the headers in the file. Each file's data is hashed while it is read. So
an archive is refused if a bit was flipped. It is also refused if it has an added, removed or renamed file, a link,
compressed data, a false size, or bytes between entries. Paths are checked by index.check_index.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from ecellm_lite.bundle import index as index_form
from ecellm_lite.bundle import signature as signature_form
from ecellm_lite.bundle.index import BundleFile, Index, read_index
from ecellm_lite.bundle.keys import PublicKey
from ecellm_lite.bundle.layout import LOCAL_MAGIC, Entry, Layout, header_size, layout, read_local_header
from ecellm_lite.documents import regular_opener
from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import size_text

INDEX = "index.json"
SIGNATURE = "index.json.minisig"
STARTER_STEP = 1 << 12  # the archive begins at a multiple of this many bytes

_BLOCK = 1 << 20
_MAGIC = LOCAL_MAGIC.to_bytes(4, "little")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Archive:
    """An open bundle. `key` is the key that signed the bundle, or None if it is unsigned."""

    path: Path
    file: FileIO
    index: Index
    index_bytes: bytes
    key: PublicKey | None
    places: Layout

    @property
    def sha256(self) -> str:
        """The sha256 of the index, in hex. It identifies the whole content of the bundle."""
        return hashlib.sha256(self.index_bytes).hexdigest()

    def data(self, wanted: BundleFile) -> Iterator[memoryview]:
        """Yield the bytes of a file in the bundle, in blocks. A block is valid until the next block is yielded.

        After the last block, raises ModelError if the file's sha256 is wrong.
        """
        skipped = len(self.places.entries) - len(self.index.included)
        place = self.places.offsets[skipped + self.index.included.index(wanted)]
        self.file.seek(place)
        digest, left, block = hashlib.sha256(), wanted.size, memoryview(bytearray(_BLOCK))
        while left:
            count = self.file.readinto(block[: min(left, _BLOCK)])
            if not count:
                raise _damaged(self.path, "it is too short")
            digest.update(block[:count])
            yield block[:count]
            left -= count
        if digest.hexdigest() != wanted.sha256:
            raise _damaged(self.path, f"the bytes of {wanted.path} do not have the sha256 in the index")

    def verify(self, progress: Progress | None = None) -> None:
        """Read all files in the bundle, and raise ModelError if a file has the wrong sha256.

        `progress` is called with the number of bytes read so far and their total.
        """
        total, done = sum(file.size for file in self.index.included), 0
        for file in self.index.included:
            for block in self.data(file):
                done += len(block)
                if progress:
                    progress(done, total)


@contextmanager
def open_archive(path: Path, keys: Sequence[PublicKey], *, unsigned: bool = False) -> Iterator[Archive]:
    """Open a bundle that was signed with one of `keys`. With `unsigned`, also open a bundle without a signature.

    Raises ModelError if the file cannot be read, is not a bundle, or is damaged. Raises ModelError too if the signature
    is missing or from another key.
    """
    try:
        file = FileIO(path, opener=regular_opener)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})", step="check its path") from None
    with file:
        try:
            archive = _read(path, file, keys, unsigned)
        except OSError as error:
            raise ModelError(f"{path} cannot be read ({error.strerror})", step="copy it again") from None
        yield archive


def _read(path: Path, file: FileIO, keys: Sequence[PublicKey], unsigned: bool) -> Archive:
    start = _start(path, file)
    index_bytes, crc32, place = _small_entry(path, file, start, INDEX, index_form.LARGEST)
    entries = [Entry(INDEX, len(index_bytes), crc32, 0o644)]
    key = None
    if _peek(file, place + LOCAL_NAME, len(SIGNATURE)) == SIGNATURE.encode():
        text, crc32, _ = _small_entry(path, file, place, SIGNATURE, signature_form.LARGEST)
        entries.append(Entry(SIGNATURE, len(text), crc32, 0o644))
        key = signature_form.verify(index_bytes, text, keys, path.name)
    elif not unsigned:
        raise ModelError(
            f"{path.name} has no signature", step="get a signed one, or allow it explicitly", settings=("unsigned",)
        )
    try:
        index = read_index(index_bytes)
    except ValueError as error:
        raise _damaged(path, f"its index: {error}") from None
    _check_starter(path, file, index, start)
    entries += [Entry(file.path, file.size, int(file.crc32, 16), file.mode) for file in index.included]
    places = layout(entries, start)
    _check_layout(path, file, places)
    return Archive(path, file, index, index_bytes, key, places)


LOCAL_NAME = header_size("") - 20  # the offset of the name in a local header


def _start(path: Path, file: FileIO) -> int:
    """Return the offset where the ZIP archive begins: 0, or the end of the shell script in front of it."""
    for start in range(0, index_form.LARGEST + 1, STARTER_STEP):
        begin = _peek(file, start, LOCAL_NAME + len(INDEX))
        if begin[:4] == _MAGIC and begin[LOCAL_NAME:] == INDEX.encode():
            return start
        if not begin or (start == 0 and not begin.startswith(b"#!")):
            break
    raise ModelError(f"{path} is not a bundle", step="give a file that `bundle create` wrote")


def _small_entry(path: Path, file: FileIO, place: int, name: str, largest: int) -> tuple[bytes, int, int]:
    """Return the data of a small entry of the ZIP archive, its CRC-32, and the offset of its end.

    The entry's header begins at the offset `place`. _check_layout checks the header's bytes later. Raises ModelError if
    the header is wrong, or if the data are truncated or have more than `largest` bytes.
    """
    entry = read_local_header(_peek(file, place, header_size(name)), name)
    if entry is None or entry.size > largest:
        raise _damaged(path, f"the header of {name} is wrong")
    data = _peek(file, place + header_size(name), entry.size)
    if len(data) != entry.size:
        raise _damaged(path, "it is too short")
    return data, zlib.crc32(data), place + header_size(name) + entry.size


def _check_starter(path: Path, file: FileIO, index: Index, start: int) -> None:
    sha256 = hashlib.sha256(_peek(file, 0, start)).hexdigest() if start else None
    if sha256 != index.starter:
        raise _damaged(path, "the script in front of the archive is not the one that the index names")


def _check_layout(path: Path, file: FileIO, places: Layout) -> None:
    size = os.fstat(file.fileno()).st_size
    if size != places.size:
        raise _damaged(path, f"it has {size:,} bytes, and its index names {places.size:,} ({size_text(places.size)})")
    for place, right in [*places.headers, places.tail]:
        if _peek(file, place, len(right)) != right:
            raise _damaged(path, f"the archive's headers at offset {place:,} do not match the index")


def _peek(file: FileIO, place: int, count: int) -> bytes:
    file.seek(place)
    parts = []
    while count and (part := file.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(f"The bundle {path.name} is damaged or was changed ({reason})", step="get it again")
