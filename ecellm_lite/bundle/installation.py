"""The installed versions of a bundle, and which of them is current.

Each version has its own folder. A version becomes current only when it is complete, by one atomic rename. So even if a
process is killed, either the old or the new version is current. The previous version is kept for a rollback.

    BASE/bundles/NAME/versions/SERIAL-HASH/   the files of a bundle, its index, and the script `ecellm-lite`
    BASE/bundles/NAME/current                 a link to the current version (on Windows the file current.txt)
    BASE/bundles/NAME/newest.json             the highest serial number that was ever installed
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ecellm_lite.bundle import pointer
from ecellm_lite.bundle.archive import INDEX
from ecellm_lite.bundle.index import LARGEST, BundleFile, Index, read_index
from ecellm_lite.bundle.launcher import HOME
from ecellm_lite.bundle.start import check_start
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.home import bundle_home
from ecellm_lite.models.calibrations import read_calibration
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.store import Store
from ecellm_lite.models.store_lock import only_writer

_REMAKE = "make a bundle of it again, with a higher serial number"

KEPT = 2  # versions: the current one and the one before

_VERSION = re.compile(r"(?P<serial>[1-9][0-9]{0,15})-[0-9a-f]{12}(\.[0-9]+)?")
_NEW = ".new-"


@dataclass(frozen=True, slots=True)
class Version:
    """An installed version: its folder, its index, and the sha256 of its index."""

    folder: Path
    index: Index
    sha256: str

    def check(self, *, own_model: bool = False) -> None:
        """Raise ModelError if a file of the version is missing or changed, or if the program does not start.

        Calibrations may be missing or changed, because the version's program may have removed or replaced them.

        `own_model`: whether the model and the user's own tasks must be those from the bundle. If False, they may have
          been replaced too.
        """
        for file in self.index.files:
            path = self.folder / file.path
            shipped = path.is_file() and path.stat().st_size == file.size and sha256_of(path) == file.sha256
            if not shipped and not self._is_replaced(file, own_model=own_model):
                raise ModelError(f"{path} is damaged or missing", step=_REMAKE)
        check_start(self.folder, _REMAKE)

    def _is_replaced(self, file: BundleFile, *, own_model: bool) -> bool:
        """Return whether the version's program may have removed or changed `file`. If not, the file is damaged.

        Return True for a calibration that is missing or readable. If `own_model` is False, also return True for the
        files of the user's own tasks, and for the model's file and its manifest if they fit each other.
        """
        if file.of_own_task:
            return not own_model
        if not file.model_file:
            return False
        with suppress(ModelError):
            if file.model_file.startswith("calibration/"):
                read_calibration(self.folder / file.path)
                return True
            if own_model:
                return False
            store = Store(self.folder / HOME)
            model = store.get(self.index.model)
            return store.identify(model.path, again=True).sha256 == model.manifest.sha256
        return False


class Installation:
    """The installed versions of the bundle `name`.

    They are in the folder `base`, by default the user's folder for bundles.
    """

    def __init__(self, name: str, base: Path | None = None) -> None:
        self.name = name
        self.root = (base or bundle_home()) / "bundles" / name
        self.versions_folder = self.root / "versions"
        self.newest = self.root / "newest.json"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the bundle during the `with` block, so that no other process adds or removes a version.

        Raises BusyError if another process holds the lock.
        """
        self.versions_folder.mkdir(parents=True, exist_ok=True)
        with only_writer(self.root / "lock", f"the bundle {self.name!r}"):
            yield

    def versions(self) -> list[Version]:
        """Return the installed versions, the lowest serial number first. Damaged versions are left out."""
        versions = []
        for folder in self._folders():
            with suppress(OSError, ValueError):
                versions.append(_read_version(folder))
        return sorted(versions, key=lambda version: (version.index.serial, version.folder.name))

    def current(self) -> Version | None:
        """Return the current version, or None if there is none."""
        name = pointer.read(self.root)
        return next((version for version in self.versions() if version.folder.name == name), None)

    def free_folder(self, index: Index, sha256: str) -> Path:
        """Return an unused path for the folder of a new version."""
        name, number = f"{index.serial}-{sha256[:12]}", 2
        folder = self.versions_folder / name
        while folder.exists():
            folder = self.versions_folder / f"{name}.{number}"
            number += 1
        return folder

    def switch(self, version: Path) -> None:
        """Make a version the current one."""
        pointer.write(self.root, version.name)

    def staging(self, token: str) -> Path:
        """Return the path of a temporary folder in which a new version is written. Its name ends with `token`.

        If the installation is interrupted, `clear` removes the folder later.
        """
        return self.versions_folder / f"{_NEW}{token}"

    def clear(self) -> None:
        """Remove the temporary files and folders that interrupted installations left behind."""
        for leftover in [*self.versions_folder.glob(f"{_NEW}*"), *self.root.glob(f".{pointer.LINK}.*")]:
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)

    def prune(self, new: Path | None = None) -> None:
        """Remove all versions, even damaged ones, except the current and the previous one.

        `new`: the folder of a version that is about to become current. It is kept too.
        """
        current = pointer.read(self.root)
        if current is None:
            return
        kept = {current, *(version.folder.name for version in self._older(current)[1 - KEPT :])}
        for folder in self._folders():
            if folder.name not in kept and folder != new:
                # Without its index it is no version any more, even if the rest cannot be removed.
                (folder / INDEX).unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)

    def rollback(self) -> Version:
        """Make the previous version current, and return it.

        Raises ModelError if there is no previous version, or if it is damaged.
        """
        with self.writing():
            current = pointer.read(self.root)
            older = self._older(current) if current else []
            if not older:
                raise ModelError(f"There is no earlier version of the bundle {self.name!r}", step="install one")
            older[-1].check()
            self.switch(older[-1].folder)
            return older[-1]

    def _folders(self) -> list[Path]:
        """Return the folders of all versions, even of damaged ones."""
        return [path for path in self.versions_folder.glob("[1-9]*") if _VERSION.fullmatch(path.name) and path.is_dir()]

    def _older(self, name: str) -> list[Version]:
        """Return the versions that are older than the one in the folder `name`.

        That version's serial number is read from the folder's name, because its index may be damaged.
        """
        match = _VERSION.fullmatch(name)
        return [version for version in self.versions() if match and version.index.serial < int(match["serial"])]


def find_installation(name: str | None, base: Path | None = None) -> Installation:
    """Return the installation of the bundle `name` or, without a name, of the only installed bundle.

    Raises UsageError if there is no such bundle, or if no name is given and several bundles are installed.
    """
    names = installed_names(base)
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        step = f"name one of {', '.join(names)}" if names else "install one first"
        raise UsageError(
            f"There is no installed bundle {name!r}"
            if name
            else f"{len(names)} bundles are installed, and no name was given",
            step=step,
        )
    return Installation(name, base)


def installed_names(base: Path | None = None) -> list[str]:
    """Return the names of the installed bundles."""
    folder = (base or bundle_home()) / "bundles"
    return sorted(path.name for path in folder.glob("[!.]*") if pointer.read(path))


def _read_version(folder: Path) -> Version:
    data = (folder / INDEX).read_bytes()
    if len(data) > LARGEST:
        raise ValueError("too large")
    return Version(folder, read_index(data), hashlib.sha256(data).hexdigest())
