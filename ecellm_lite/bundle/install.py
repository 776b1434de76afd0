"""Installs a bundle in a new folder. Once this folder is complete, it becomes the current version.

Each file is hashed while it is written. Only files that the bundle's index names are written. If the bundle has wheels,
pip installs them into the version's own virtual environment, without a network. If a bundle is refused, or its program
does not start on this machine, the installed versions stay as they are.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ecellm_lite.bundle.archive import INDEX, Archive, Progress, open_archive
from ecellm_lite.bundle.contents import this_platform
from ecellm_lite.bundle.index import BundleFile
from ecellm_lite.bundle.installation import Installation, Version
from ecellm_lite.bundle.keys import PublicKey
from ecellm_lite.bundle.launcher import HOME, NAME, write_command, write_launcher
from ecellm_lite.bundle.newest import check_newer, remember
from ecellm_lite.bundle.pulled_calibrations import record_copies
from ecellm_lite.bundle.start import check_start
from ecellm_lite.bundle.wheels import WHEELS, make_environment
from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import sha256_of, size_text
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.model_check import check_model
from ecellm_lite.models.store import Store

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True, slots=True)
class Installed:
    """The result of an installation: the version, the command that starts it, and the key that signed it."""

    version: Version
    command: Path
    key: PublicKey | None


def install(
    path: Path,
    keys: Sequence[PublicKey],
    *,
    unsigned: bool = False,
    base: Path | None = None,
    progress: Progress | None = None,
) -> Installed:
    """Install a bundle into the folder `base`, and make it the current version.

    One of `keys` must have signed the bundle. If `unsigned` is true, a bundle without a signature is accepted too.
    Raises ModelError in these cases:

    - The bundle is damaged, or its signature is wrong.
    - The bundle is older than one that was installed before, or is for another kind of machine.
    - The bundle is a delta, and its base version is not installed.

    Raises BusyError while another process installs a version of the same bundle.
    """
    with open_archive(path, keys, unsigned=unsigned) as archive:
        index = archive.index
        if index.platform and index.platform != this_platform():
            message = f"The program in {path.name} is for {index.platform}, and this is {this_platform()}"
            raise ModelError(message, step="get the bundle for this machine")
        installation = Installation(index.name, base)
        try:
            with installation.writing():
                check_newer(installation.newest, index.name, index.serial, archive.sha256)
                installation.clear()
                folder = _whole_version(installation, archive, progress) or _new_version(
                    installation, archive, progress
                )
                # A version that a rollback left must not become the previous one, even if this process is killed.
                with suppress(OSError):  # what is left is removed after the switch
                    installation.prune(folder)
                installation.switch(folder)
                installation.prune()
        except OSError as error:
            raise ModelError(
                f"The bundle could not be installed in {installation.root} ({error.strerror or error})",
                step="free some space or check its permissions",
            ) from None
        current = installation.current()
        assert current is not None
        return Installed(current, _command(installation), archive.key)


def _command(installation: Installation) -> Path:
    return installation.root / (f"{NAME}.cmd" if os.name == "nt" else f"current/{NAME}")


def _whole_version(installation: Installation, archive: Archive, progress: Progress | None) -> Path | None:
    """Return the folder of this bundle's version if it is already installed and undamaged, else None.

    Raises ModelError if the bundle itself is damaged.
    """
    for version in installation.versions():
        if version.sha256 == archive.sha256:
            try:
                version.check(own_model=True)
            except ModelError:
                continue
            archive.verify(progress)  # a damaged bundle must not pass as installed
            return version.folder
    return None


def _new_version(installation: Installation, archive: Archive, progress: Progress | None) -> Path:
    """Write a version's files, check them, and start the program once. Return the version's folder."""
    index = archive.index
    total = sum(file.size for file in index.included)
    free = shutil.disk_usage(installation.root).free
    if total > free:
        raise ModelError(
            f"The bundle needs {size_text(total)}, and {installation.root} has {size_text(free)} free",
            step="free some space",
        )
    older = _base_of(installation, archive) if index.base else None
    staging = installation.staging(secrets.token_hex(4))
    try:
        done = 0
        for file in index.files:
            target = staging / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if not file.included:
                assert older is not None
                _link_or_copy(older.folder / file.path, target, file)
                continue
            with os.fdopen(os.open(target, _FLAGS, file.mode), "wb") as written:
                for block in archive.data(file):
                    written.write(block)
                    done += len(block)
                    if progress:
                        progress(done, total)
        _check_model(staging, index.model)
        if (staging / WHEELS).is_dir() and not (staging / "program").is_dir():
            make_environment(staging / "venv", staging / WHEELS)
        write_launcher(staging)
        check_start(staging, "get one for this machine, or install what it lacks")
        (staging / INDEX).write_bytes(archive.index_bytes)
        record_copies(staging, index)
        _sync(staging)
        remember(installation.newest, index.name, index.serial, archive.sha256)
        folder = installation.free_folder(index, archive.sha256)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    # Its hash was just computed: the first start need not hash the model again.
    Store(folder / HOME).note(index.model)
    if os.name == "nt":
        write_command(installation.root, folder)
    return folder


def _base_of(installation: Installation, archive: Archive) -> Version:
    for version in installation.versions():
        if version.sha256 == archive.index.base:
            return version
    raise ModelError(
        f"{archive.path.name} holds only what changed since another version, which is not installed here",
        step="install the whole bundle",
    )


def _link_or_copy(source: Path, target: Path, file: BundleFile) -> None:
    """Make `target` a hard link to `source`, or a copy of it if the link cannot be made.

    `source`: the file in the installed version that the bundle updates.
    `file`: the description of the file in the bundle's index.

    Raises ModelError if the source is missing or has the wrong sha256.
    """
    try:
        target.hardlink_to(source)
    except OSError:
        if not source.is_file():
            raise ModelError(f"{source} is missing", step="install the whole bundle") from None
        shutil.copyfile(source, target)
        target.chmod(file.mode)
    if target.stat().st_size != file.size or sha256_of(target) != file.sha256:
        raise ModelError(f"{source} is damaged", step="install the whole bundle")


def _check_model(version: Path, name: str) -> None:
    """Raise ModelError if a bundle's version has no model of this name, or if the model could crash llama.cpp."""
    model = Store(version / HOME).get(name)
    check_model(read_header(model.path))


def _sync(folder: Path) -> None:
    """Wait until everything in a folder is written to the disk."""
    if hasattr(os, "sync"):
        os.sync()
        return
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
