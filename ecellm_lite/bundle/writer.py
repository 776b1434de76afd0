"""Writes a bundle in one pass: each file is read once, and hashed while it is copied.

All sizes are known in advance, and all hashes have a fixed width. So every offset is known before any hash is computed.
The files' data is written first, then the headers, the index and its signature. The bundle replaces `target` only when
it is complete.
"""

from __future__ import annotations

import hashlib
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

from ecellm_lite.bundle.archive import INDEX, SIGNATURE, Progress
from ecellm_lite.bundle.index import BundleFile, Index, check_index
from ecellm_lite.bundle.keys import SecretKey
from ecellm_lite.bundle.layout import Entry, layout
from ecellm_lite.bundle.signature import sign
from ecellm_lite.bundle.starter import starter_of
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.files import is_replaceable, replacing, same_file, size_text

_BLOCK = 1 << 20
_NO_SHA256, _NO_CRC32 = "0" * 64, "0" * 8


@dataclass(frozen=True, slots=True)
class Source:
    """A file for a bundle.

    `path`: its path in the bundle. `content`: its bytes, or the path of a file to copy.
    """

    path: str
    content: bytes | Path
    executable: bool = False

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


def write_bundle(
    target: Path,
    draft: Index,
    sources: Sequence[Source],
    key: SecretKey | None,
    *,
    base: Mapping[str, BundleFile] | None = None,
    progress: Progress | None = None,
) -> Index:
    """Write a bundle of `sources` and return its index.

    `draft`: an index that has no files and no hash of the starter script yet.
    `base`: the files of an older bundle by path. If given, the new bundle is a delta, which leaves out unchanged files.

    Raises UsageError for a path that is not allowed. Raises ModelError if a file cannot be read, if its size
    changes while the bundle is written, or if the disk is full.
    """
    target = target.resolve()  # a link stays a link
    try:
        files = [_unhashed(source) for source in sources]
        if base is not None:
            files = [_compared(source, file, base.get(file.path)) for source, file in zip(sources, files, strict=True)]
        index = replace(draft, files=files)
        check_index(index)
    except ValueError as error:
        raise UsageError(f"The bundle cannot be made: {error}", step="rename the file") from None
    except OSError as error:
        raise ModelError(f"{error.filename} cannot be read ({error.strerror})", step="check it") from None
    try:
        included = [source for source, file in zip(sources, files, strict=True) if file.included]
        _check_room(target, sum(source.size for source in included))
        with replacing(target) as temporary, FileIO(temporary, "r+") as file:
            return _write(file, index, included, key, progress)
    except OSError as error:
        raise ModelError(
            f"{target} cannot be written ({error.strerror})", step="free some space, or write elsewhere"
        ) from None


def check_target(target: Path, inputs: Iterable[Path]) -> None:
    """Raise UsageError if a bundle must not be written to `target`.

    `target` must not be one of the files `inputs`, and an existing `target` must be a regular file.
    """
    if not is_replaceable(target):
        step = "give another file for the bundle"
        raise UsageError(f"{target} is not a regular file", step=step, settings=("output",))
    for path in inputs:
        if same_file(target, path):
            message = f"The bundle in {target} would replace {path}, which it is made with"
            raise UsageError(message, step="write it to another file", settings=("output",))


def _write(
    file: FileIO, index: Index, sources: Sequence[Source], key: SecretKey | None, progress: Progress | None
) -> Index:
    script = _starter(index, key)
    index = replace(index, starter=_NO_SHA256 if script else None)
    places = layout(_entries(index, key), len(script))
    total, done = sum(source.size for source in sources), 0
    hashed: dict[str, BundleFile] = {}
    ahead = len(places.offsets) - len(sources)
    with ThreadPoolExecutor(1) as beside:
        for source, blank, place in zip(sources, index.included, places.offsets[ahead:], strict=True):
            file.seek(place)
            hashed[source.path] = _copy(source, blank, file, beside)
            done += source.size
            if progress:
                progress(done, total)
    index = replace(index, files=[hashed.get(file.path, file) for file in index.files])
    script = _starter(index, key)
    index = replace(index, starter=hashlib.sha256(script).hexdigest() if script else None)
    places = layout(_entries(index, key), len(script))
    for place, data in [(0, script), *places.headers, *_own_data(index, key, places.offsets), places.tail]:
        file.seek(place)
        _write_all(file, data)
    return index


def _starter(index: Index, key: SecretKey | None) -> bytes:
    """Return the script in front of the archive.

    It is padded, so that its size is known before the hashes are computed.
    """
    places = layout(_entries(replace(index, starter=_NO_SHA256), key), 0)
    ahead = len(places.offsets) - len(index.included)
    return starter_of(index, places.offsets[ahead:])


def _entries(index: Index, key: SecretKey | None) -> list[Entry]:
    small = [Entry(name, len(data), zlib.crc32(data), 0o644) for name, data in _own_entries(index, key)]
    return small + [Entry(file.path, file.size, int(file.crc32, 16), file.mode) for file in index.included]


def _own_entries(index: Index, key: SecretKey | None) -> list[tuple[str, bytes]]:
    data = index.encode()
    if not key:
        return [(INDEX, data)]
    return [(INDEX, data), (SIGNATURE, sign(data, key, f"bundle {index.name}, serial {index.serial}"))]


def _own_data(index: Index, key: SecretKey | None, offsets: Sequence[int]) -> list[tuple[int, bytes]]:
    return [(place, data) for place, (_, data) in zip(offsets, _own_entries(index, key), strict=False)]


def _copy(source: Source, blank: BundleFile, target: FileIO, beside: ThreadPoolExecutor) -> BundleFile:
    """Copy a file's bytes to the bundle, and return its index entry.

    `blank`: the index entry without hashes. `beside`: the thread that computes the CRC-32.
    """
    digest, crc32, left = hashlib.sha256(), 0, blank.size
    if isinstance(source.content, bytes):
        _write_all(target, source.content)
        digest.update(source.content)
        return replace(blank, sha256=digest.hexdigest(), crc32=f"{zlib.crc32(source.content):08x}")
    for block in _blocks(source.content):
        left -= len(block)
        if left < 0:
            break
        check = beside.submit(zlib.crc32, block, crc32)
        _write_all(target, block)
        digest.update(block)
        crc32 = check.result()
    if left:
        raise ModelError(f"{source.content} changed while it was read", step="try again once it is written")
    return replace(blank, sha256=digest.hexdigest(), crc32=f"{crc32:08x}")


def _blocks(path: Path) -> Iterator[memoryview]:
    """Yield a file's bytes in blocks. A block is valid until the next one is requested.

    Raises ModelError if the file cannot be read.
    """
    block = memoryview(bytearray(_BLOCK))
    try:
        with FileIO(path) as file:
            while count := file.readinto(block):
                yield block[:count]
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})", step="check it") from None


def _write_all(target: FileIO, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[target.write(rest) :]


def _unhashed(source: Source) -> BundleFile:
    return BundleFile(source.path, source.size, _NO_SHA256, _NO_CRC32, 0o755 if source.executable else 0o644)


def _compared(source: Source, blank: BundleFile, old: BundleFile | None) -> BundleFile:
    """Compare a file with the same file in the older bundle.

    If the file is unchanged, return `old`, its index entry in the older bundle, with `included` set to False. If the
    file is new or changed, return `blank`, its new index entry, which has no hashes yet. Own tasks and a model's
    manifest and calibrations always count as changed, because the program may replace them wherever the older bundle is
    installed.
    """
    replaceable = blank.of_own_task or blank.model_file not in {None, "model.gguf"}
    if old is None or replaceable or (old.size, old.mode) != (blank.size, blank.mode):
        return blank
    digest = hashlib.sha256()
    if isinstance(source.content, bytes):
        digest.update(source.content)
    else:
        for block in _blocks(source.content):
            digest.update(block)
    return replace(old, included=False) if digest.hexdigest() == old.sha256 else blank


def _check_room(target: Path, size: int) -> None:
    folder = next(path for path in target.absolute().parents if path.is_dir())
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ModelError(
            f"The bundle needs {size_text(size)}, and {folder} has {size_text(free)} free",
            step="free some space, or write elsewhere",
        )
