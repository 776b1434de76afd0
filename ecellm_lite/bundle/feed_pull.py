"""Downloads the models of a feed into the store.

Besides the feed's signed index, only files that it lists are downloaded. A file that the store already has is not
downloaded again. Each feed has a folder for its downloads, which is named after the feed's key and the feed's name:

    STORE/models/.downloads/KEY-NAME/SHA256   a file that is not complete, or not in the store yet
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urljoin

from ecellm_lite.bundle import signature
from ecellm_lite.bundle.archive import INDEX, SIGNATURE, Progress
from ecellm_lite.bundle.download import PAUSE, check_address, fetch, fetch_small
from ecellm_lite.bundle.feed import FILES, MANIFEST, MODEL, FeedFile, FeedIndex, FeedModel, read_feed_index
from ecellm_lite.bundle.index import LARGEST
from ecellm_lite.bundle.keys import PublicKey
from ecellm_lite.bundle.newest import check_newer, remember
from ecellm_lite.bundle.pulled_calibrations import PulledCalibrations
from ecellm_lite.errors import ModelError
from ecellm_lite.home import bundle_home
from ecellm_lite.models.files import size_text
from ecellm_lite.models.manifest import read_manifest
from ecellm_lite.models.store import Store
from ecellm_lite.models.store_lock import only_writer

_TRIES = 3  # the index and its signature are two files, and may be replaced between


@dataclass(frozen=True, slots=True)
class Pulled:
    """The result of a pull: the feed's index, and the names of the models that are new or changed."""

    index: FeedIndex
    changed: Sequence[str]


def pull_feed(address: str, keys: Sequence[PublicKey], store: Store, *, progress: Progress | None = None) -> Pulled:
    """Bring the store's models up to date with a feed, and return what changed.

    `address` is the URL of the feed's index. Files that the store has already are not fetched. An interrupted download
    continues in the next call. A model is replaced only when its new files are complete. Models that the index does not
    name stay in the store.

    Raises UsageError if the address is not HTTPS. Raises ModelError in these cases:

    - None of `keys` signed the index.
    - The index is older than the last accepted one.
    - A file is damaged or cannot be fetched.
    - The disk has no room for the files.
    """
    check_address(address)
    address = address if address.endswith(".json") else urljoin(f"{address.rstrip('/')}/", INDEX)
    index, data, key = _index(address, keys)
    feed = f"{key.name}-{index.name}"
    # Also by its address, so that an index of a key that was replaced is not accepted there again.
    place = hashlib.sha256(address.encode()).hexdigest()[:16]
    records = [bundle_home() / "feeds" / f"{name}.json" for name in (feed, place)]
    sha256 = hashlib.sha256(data).hexdigest()
    for record in records:
        check_newer(record, f"The index {address}", index.serial, sha256)
    try:
        for record in records:
            remember(record, index.name, index.serial, sha256)
        changed = [model for model in index.models if not _is_current(model, store)]
        needed = [(model, file) for model in changed for file in model.files if not _is_stored(model, file, store)]
        total, done = sum(file.size for _, file in needed), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if progress:
                progress(min(done, total), total)

        # On the disk of the models, which may be another than the store's.
        folder = store.root / "models" / ".downloads" / feed
        with only_writer(store.root / "locks" / "pull.lock", "the models"):
            _prepare(folder, [file for _, file in needed])
            for model in changed:
                _update(model, store, folder, urljoin(address, f"{FILES}/"), advance)
            with suppress(OSError):
                folder.rmdir()
                folder.parent.rmdir()
    except OSError as error:
        raise ModelError(
            f"{error.filename or store.root} cannot be written ({error.strerror})",
            step="free some space and pull again",
        ) from None
    return Pulled(index, [model.name for model in changed])


def _index(address: str, keys: Sequence[PublicKey]) -> tuple[FeedIndex, bytes, PublicKey]:
    for attempt in range(1, _TRIES + 1):
        text = fetch_small(f"{address}{SIGNATURE.removeprefix(INDEX)}", signature.LARGEST)
        data = fetch_small(address, LARGEST)
        try:
            index, key = read_feed_index(data, text, keys, address)
        except ModelError:
            if attempt == _TRIES:
                raise
        else:
            return index, data, key
        time.sleep(PAUSE * attempt)
    raise AssertionError


def _prepare(folder: Path, files: Sequence[FeedFile]) -> None:
    """Make the folder for downloads, and remove files in it that are not needed any more.

    Raises ModelError if the disk has no room for the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    present = {path.name: path.stat().st_size for path in folder.iterdir()}
    for name in present.keys() - {file.sha256 for file in files}:
        (folder / name).unlink()
    missing = sum(max(file.size - present.get(file.sha256, 0), 0) for file in files)
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise ModelError(
            f"The models need {size_text(missing)} more, and {folder} has {size_text(free)} free",
            step="free some space and pull again",
        )


def _is_current(model: FeedModel, store: Store) -> bool:
    if not all(_is_stored(model, file, store) for file in model.files):
        return False
    return PulledCalibrations(model, store, store.get(model.name)).recorded


def _is_stored(model: FeedModel, file: FeedFile, store: Store) -> bool:
    try:
        stored = store.load(model.name)
    except ModelError:
        return False
    if file.path == MODEL:
        return stored.manifest.sha256 == file.sha256
    if file.path == MANIFEST:
        data = replace(stored.manifest, file=MODEL).encode()  # the store names the file itself
        return hashlib.sha256(data).hexdigest() == file.sha256
    return not PulledCalibrations(model, store, stored).needs(file)


def _update(model: FeedModel, store: Store, folder: Path, address: str, advance: Callable[[int], None]) -> None:
    """Fetch those files of a feed's model that are not in the store. Store the model first, then its calibrations."""
    needed = [file for file in model.files if not _is_stored(model, file, store)]

    def fetched(file: FeedFile) -> Path:
        path = folder / file.sha256
        fetch(address + file.sha256, path, file.size, file.sha256, advance)
        return path

    [weights] = [file for file in model.files if file.path == MODEL]
    for file in (file for file in needed if file.path == MANIFEST):
        manifest = read_manifest(fetched(file))
        if (manifest.name, manifest.sha256, manifest.size) != (model.name, weights.sha256, weights.size):
            raise ModelError(
                f"The manifest of {model.name} is another model's", step="ask whoever runs the feed to push it again"
            )
        if weights in needed:
            store.update(fetched(weights), manifest)
        else:
            stored = store.get(model.name)
            with store.writing_beside(stored):
                replace(manifest, file=stored.path.name).write(stored.path.with_name(MANIFEST))
    calibrations = {Path(file.path).name: fetched(file) for file in needed if file.path not in {MODEL, MANIFEST}}
    PulledCalibrations(model, store, store.get(model.name)).update(calibrations)
    for file in needed:
        (folder / file.sha256).unlink(missing_ok=True)
