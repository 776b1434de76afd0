"""A feed: a folder of models, on a disk or a web server, from which other machines download. Its index is signed.

    FOLDER/index.json            the models, their files, and a serial number that only grows
    FOLDER/index.json.minisig    its signature
    FOLDER/files/SHA256          a file of a model: weights, a manifest, a calibration

`push` writes the files first and the index last. So a machine that downloads at the same time sees either the old index
or the new one. `push` also keeps the files of the old index, so that a download that began with it can finish.

Only one process at a time can push. `push` writes the new index to the file .index.json.next, then replaces the
signature, then moves the new index into its place. If a push is killed after it replaced the signature, but before it
moved the index, the next push with the same key moves the index.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ecellm_lite.bundle import signature
from ecellm_lite.bundle.archive import INDEX, SIGNATURE
from ecellm_lite.bundle.index import LARGEST, LARGEST_FILE, LARGEST_SERIAL
from ecellm_lite.bundle.keys import PublicKey, SecretKey
from ecellm_lite.bundle.paths import check_paths
from ecellm_lite.documents import parse_document
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.calibration_files import fitting_calibrations
from ecellm_lite.models.files import copy_file, replacing, sha256_of
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.models.store_lock import only_writer

FORMAT = 1
FILES, LOCK, NEXT = "files", ".lock", f".{INDEX}.next"
MODEL, MANIFEST, CALIBRATION = "model.gguf", "manifest.json", "calibration"
LARGEST_SMALL = 1 << 20  # bytes, of any file but the weights

_SHA256 = re.compile("[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATH = re.compile(rf"{re.escape(MODEL)}|{re.escape(MANIFEST)}|{CALIBRATION}/[a-z][a-z0-9_]{{0,63}}\.json")


@dataclass(frozen=True, slots=True)
class FeedFile:
    """A file of a model: its path relative to the model's folder, its size in bytes, and its sha256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FeedModel:
    """A model in a feed: its name in the store, and its files."""

    name: str
    files: list[FeedFile]


@dataclass(frozen=True, slots=True)
class FeedIndex:
    """The index of a feed, which is a folder of models that other machines download.

    Of two indexes with the same name, the one with the higher serial number is newer.
    """

    format: int
    name: str
    serial: int
    models: list[FeedModel]

    def encode(self) -> bytes:
        """Return the index as JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode("utf-8") + b"\n"

    @property
    def hashes(self) -> set[str]:
        """The sha256 hashes of all files in the feed."""
        return {file.sha256 for model in self.models for file in model.files}


def read_feed_index(data: bytes, text: bytes, keys: Sequence[PublicKey], what: str) -> tuple[FeedIndex, PublicKey]:
    """Decode an index from `data`, after checking its signature. `text` is the content of the signature file.

    Return the index, and the key that signed it.

    Raises ModelError if the signature is not from one of `keys`, or if the index is damaged. `what` names the index in
    error messages.
    """
    key = signature.verify(data, text, keys, what)
    try:
        index = parse_document(FeedIndex, data, formats=(FORMAT,))
        _check(index)
    except ValueError as error:
        raise ModelError(f"{what} is damaged ({error})", step="ask whoever runs the feed to push it again") from None
    return index, key


def push(
    model: StoredModel,
    store: Store,
    folder: Path,
    key: SecretKey,
    *,
    name: str | None = None,
    serial: int | None = None,
) -> FeedIndex:
    """Put a model into a feed's folder, replacing any model of the same name. Return the folder's new index.

    `name`: the name of a new index. The default is the folder's name. The name of an existing index cannot be changed.
    `serial`: the index's new serial number. By default, it is the current Unix time or the old number plus 1, whichever
      is higher.

    Raises UsageError for a wrong serial number, a wrong name, or a name other than the old index's. Raises
    ModelError if a file cannot be written, or if the old index was not signed with `key`. Raises BusyError if another
    process pushes into the same folder.
    """
    with only_writer(folder / LOCK, f"the feed {folder}"):
        return _push(model, store, folder, key, name, serial)


def _push(
    model: StoredModel, store: Store, folder: Path, key: SecretKey, name: str | None, serial: int | None
) -> FeedIndex:
    try:
        _finish(folder, key)
        old = _present(folder, key)
        if old and name and name != old.name:
            message = f"The index in {folder} has the name {old.name}, not {name[:80]!r}"
            raise UsageError(message, step="leave the name out, or give a new folder", settings=("name",))
        files = [_put(folder, path, source) for path, source in _files(model, store)]
        others = [other for other in old.models if other.name != model.manifest.name] if old else []
        new = FeedIndex(
            FORMAT,
            name or (old.name if old else folder.resolve().name),
            serial or max(int(time.time()), old.serial + 1 if old else 1),
            sorted([*others, FeedModel(model.manifest.name, files)], key=lambda other: other.name),
        )
        try:
            _check(new)
        except ValueError as error:
            raise UsageError(
                f"The index cannot be written: {error}", step="give another name or serial number"
            ) from None
        if old and new.serial <= old.serial:
            message = f"The index has serial number {old.serial}, and the new one {new.serial}"
            raise UsageError(message, step="use a higher one", settings=("serial",))
        data = new.encode()
        _write(folder / NEXT, data)
        _write(folder / SIGNATURE, signature.sign(data, key, f"models {new.name}, serial {new.serial}"))
        (folder / NEXT).replace(folder / INDEX)
        # Files of the last index stay: a machine may be in the middle of it.
        _remove_others(folder, new.hashes | (old.hashes if old else set()))
    except OSError as error:
        raise ModelError(
            f"{folder} cannot be written ({error.strerror})", step="free some space or check its permissions"
        ) from None
    return new


def _finish(folder: Path, key: SecretKey) -> None:
    """Finish a push that was killed after it replaced the signature and before it replaced the index."""
    with suppress(FileNotFoundError, ModelError):  # its signature is still that of the old index
        read_feed_index(*_signed(folder, NEXT), [key.public], NEXT)
        (folder / NEXT).replace(folder / INDEX)


def _check(index: FeedIndex) -> None:
    if not _NAME.fullmatch(index.name) or not 0 < index.serial < LARGEST_SERIAL:
        raise ValueError(f"name is {index.name[:80]!r} and serial {index.serial}")
    names = [model.name for model in index.models]
    check_paths([Store(Path("/")).folder(name).name for name in names])
    for model in index.models:
        paths = [file.path for file in model.files]
        check_paths(paths)
        if not {MODEL, MANIFEST} <= set(paths) or not all(map(_PATH.fullmatch, paths)):
            raise ValueError(f"the files of {model.name} are {paths}"[:200])
        for file in model.files:
            largest = LARGEST_FILE if file.path == MODEL else LARGEST_SMALL
            if not 0 <= file.size <= largest or not _SHA256.fullmatch(file.sha256):
                raise ValueError(f"the size or sha256 of {model.name} is wrong")


def _present(folder: Path, key: SecretKey) -> FeedIndex | None:
    """Return the folder's current index, or None if there is none. Raises ModelError if `key` did not sign it.

    `push` copies the entries of all models that it does not replace into the new index. So the current index must be
    trustworthy.
    """
    path = folder / INDEX
    if not path.exists():
        return None
    return read_feed_index(*_signed(folder, INDEX), [key.public], str(path))[0]


def _signed(folder: Path, name: str) -> tuple[bytes, bytes]:
    """Return the bytes of two files in a feed's folder: the index file `name`, and the signature."""
    with (folder / name).open("rb") as file, (folder / SIGNATURE).open("rb") as other:
        return file.read(LARGEST), other.read(signature.LARGEST + 1)


def _files(model: StoredModel, store: Store) -> list[tuple[str, bytes | Path]]:
    manifest = replace(model.manifest, file=MODEL)
    files: list[tuple[str, bytes | Path]] = [(MODEL, model.path), (MANIFEST, manifest.encode())]
    return files + [(f"{CALIBRATION}/{path.name}", path) for path in fitting_calibrations(store, model)]


def _put(folder: Path, path: str, source: bytes | Path) -> FeedFile:
    """Write a file into the feed under its sha256, unless the feed has it already. Return its entry for the index."""
    if isinstance(source, bytes):
        digest = hashlib.sha256(source).hexdigest()
        _write(folder / FILES / digest, source)
        return FeedFile(path, len(source), digest)
    digest = sha256_of(source)
    target = folder / FILES / digest
    present = target.is_file() and sha256_of(target) == digest
    if not present and copy_file(source, target) != digest:
        target.unlink()
        raise ModelError(f"{source} changed while it was read", step="try again once it is written")
    return FeedFile(path, target.stat().st_size, digest)


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _remove_others(folder: Path, hashes: set[str]) -> None:
    for path in (folder / FILES).iterdir():
        if _SHA256.fullmatch(path.name) and path.name not in hashes:
            with suppress(OSError):
                path.unlink()
