"""The local store: a folder for each model, with its GGUF file and its manifest.

A model is loaded only if its file's sha256 equals the one in its manifest. `Store.states` is a folder of saved engine
states, with which the engine need not read an instruction again. When a model's file changes, its saved states are
removed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.home import home
from ecellm_lite.models.catalogue import DEMO, how_to_get
from ecellm_lite.models.file_identity import FileIdentities, FileIdentity
from ecellm_lite.models.files import move_file, place_file
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.manifest import Manifest, read_manifest
from ecellm_lite.models.model_check import check_model
from ecellm_lite.models.store_lock import only_writer

# A name may not contain "--", which stands for the colon in a folder's name.
_NAME = re.compile(r"(?!.*--)[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?<!-)(:[A-Za-z0-9_]{1,16})?")
_MODEL = "model.gguf"
_MANIFEST = "manifest.json"
_DAMAGED = "remove the model and add it again"
_PATIENCE = 5.0  # seconds to wait for another process to write a small file


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A stored model: its file and its manifest.

    `tasks`: the tasks that the file's metadata names. Empty until the header is read.
    `identity`: the file's hash, size and times when it was last checked against the manifest. None if it was not
      checked.
    """

    path: Path
    manifest: Manifest
    tasks: tuple[str, ...] = ()
    identity: FileIdentity | None = None

    @property
    def unchanged(self) -> bool:
        """Whether the file is unchanged since it was checked."""
        return self.identity is None or self.identity.holds(self.path)

    def check_unchanged(self) -> None:
        """Raise ModelError if the file was changed since it was checked."""
        if not self.unchanged:
            raise ModelError(f"{self.path} was changed while it was loaded", step="load it again once it is written")


@dataclass(frozen=True, slots=True)
class ModelPaths:
    """The paths of a new model's file and manifest. The store lists the model once the manifest is written."""

    file: Path
    manifest: Path

    def discard(self) -> None:
        """Remove the new model's folder with everything in it."""
        shutil.rmtree(self.file.parent)


class Store:
    """The models of one user, under `root` (by default the package's home folder)."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or home()
        self.states = self.root / "prefixes"
        self._identities = FileIdentities(self.root / "hashes.json")

    def folder(self, name: str) -> Path:
        """Return the folder for a model's name. Raises UsageError for an invalid name."""
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name[:80]!r} cannot be a model's name",
                step="use letters, digits, '.', '_' and '-', and optionally a file type after a colon, as in "
                "eCeLLM-M:Q4_K_M",
                settings=("name",),
            )
        # Windows allows no colon in a file name.
        return self.root / "models" / name.replace(":", "--")

    def names(self) -> list[str]:
        """Return the sorted names of the stored models."""
        models = self.root / "models"
        if not models.is_dir():
            return []
        return sorted(filter(self.has, (folder.name.replace("--", ":") for folder in models.iterdir())))

    def __iter__(self) -> Iterator[StoredModel]:
        return (self.get(name) for name in self.names())

    def has(self, name: str) -> bool:
        """Whether the store has a model of this name."""
        return _NAME.fullmatch(name) is not None and (self.folder(name) / _MANIFEST).is_file()

    def get(self, name: str) -> StoredModel:
        """Return the model of this name.

        Raises ModelError if there is no such model, or if its file has the wrong size.
        """
        folder = self.folder(name)
        if not (folder / _MANIFEST).is_file():
            names = ", ".join(self.names()) or "none yet"
            raise ModelError(f"There is no model {name!r} in the store (it holds {names})", step=how_to_get(name))
        manifest = read_manifest(folder / _MANIFEST)
        path = folder / manifest.file
        size = path.stat().st_size if path.is_file() else 0
        if size != manifest.size:
            raise ModelError(
                f"The model {name!r} is damaged: {path} has {size:,} bytes and its manifest says {manifest.size:,}",
                step=_DAMAGED,
            )
        return StoredModel(path, manifest)

    def load(self, name: str) -> StoredModel:
        """Return the model of this name, after checking its file's sha256 against the manifest.

        Raises ModelError if the sha256 differs, or if there is no such model.
        """
        model = self.get(name)
        identity = self.identify(model.path)
        if identity.sha256 != model.manifest.sha256:
            raise ModelError(
                f"The model {name!r} is damaged: its sha256 is {identity.sha256} and its manifest says "
                f"{model.manifest.sha256}",
                step=_DAMAGED,
            )
        return replace(model, identity=identity)

    def identify(self, path: Path, *, again: bool = False) -> FileIdentity:
        """Return the sha256 of a model's file, with the size and times that the file had when it was hashed.

        The sha256 of an unchanged file is remembered. With `again`, the file is hashed anyway.

        Raises ModelError if the file cannot be read.
        """
        try:
            before = self._identities.remembered(path)
            identity = self._identities.identify(path, again=again)
        except OSError as error:
            raise ModelError(
                f"The model {path} cannot be read ({error.strerror})", step="check its permissions"
            ) from None
        if before != identity.sha256:
            self._forget_states(before)
        return identity

    def _forget_states(self, sha256: str | None) -> None:
        """Remove the saved engine states that were computed with the model file of this sha256."""
        if sha256:
            shutil.rmtree(self.states / sha256, ignore_errors=True)

    @contextmanager
    def writing(self, name: str, *, patience: float = 0.0) -> Iterator[None]:
        """Lock a model's name during the `with` block, so that no other process writes or removes that model.

        Raises BusyError if another process still holds the lock after `patience` seconds.
        """
        folder = self.folder(name)
        with only_writer(self.root / "locks" / f"{folder.name}.lock", f"the model {name!r}", patience):
            yield

    @contextmanager
    def writing_beside(self, model: StoredModel) -> Iterator[None]:
        """Lock a model during the `with` block, so that files can be written into its folder.

        Raises ModelError if the model was removed or replaced. A model outside the store is neither locked nor checked.
        """
        if not self.owns(model):
            yield
            return
        manifest = model.path.with_name(_MANIFEST)
        with self.writing(model.path.parent.name.replace("--", ":"), patience=_PATIENCE):
            if not manifest.is_file() or read_manifest(manifest).sha256 != model.manifest.sha256:
                raise ModelError(
                    f"The model {model.manifest.name!r} was removed or replaced meanwhile", step="start again"
                )
            yield

    def owns(self, model: StoredModel) -> bool:
        """Whether a model's file is in one of the store's model folders."""
        return model.path.parent.parent == self.root / "models"

    @contextmanager
    def placing(self, name: str) -> Iterator[ModelPaths]:
        """Yield the paths for a new model.

        The name is locked during the `with` block: no other process can write a model of this name. Raises UsageError
        if the name is taken, and BusyError if another process holds the lock.
        """
        if name == DEMO:
            raise UsageError(f"{DEMO!r} is reserved for the demo model", step="use another name", settings=("name",))
        with self.writing(name):
            if self.has(name):
                raise UsageError(
                    f"There is a model {name!r} already",
                    step="use another name, or remove that model first",
                    settings=("name",),
                )
            folder = self.folder(name)
            yield ModelPaths(folder / _MODEL, folder / _MANIFEST)
            if self.has(name):
                self.note(name)

    def note(self, name: str) -> None:
        """Remember the sha256 of a model that was just written, so that its file need not be hashed again."""
        model = self.get(name)
        before = self._identities.remembered(model.path)
        with suppress(OSError):
            self._identities.note(model.path, model.manifest.sha256)
        if before != model.manifest.sha256:
            self._forget_states(before)

    def add(self, source: Path, name: str, envelope: str, *, licence: str = "", move: bool = False) -> StoredModel:
        """Copy or move a GGUF file into the store under a name. Raises UsageError if the name is taken.

        If the file is a symbolic link, the file that it points to is copied. A move then removes only the link. If the
        file is already where the store would put it, and only its manifest is missing, the file is not copied.
        """
        with self.placing(name) as place:
            check_model(read_header(source))
            try:
                sha256 = place_file(source, place.file, move=move)
                size = place.file.stat().st_size
                origin = f"{source.name}, added by hand"
                manifest = Manifest(name, _MODEL, size, sha256, envelope, origin, licence)
                # The manifest is written last: without one the model does not exist.
                manifest.write(place.manifest)
                if move and (source.is_symlink() or source.resolve() != place.file.resolve()):
                    source.unlink(missing_ok=True)
            except OSError as error:
                raise ModelError(
                    f"{source} could not be put into {place.file.parent} ({error})",
                    step="free some space or check its permissions",
                ) from None
        return StoredModel(place.file, manifest)

    def update(self, source: Path, manifest: Manifest) -> StoredModel:
        """Move a GGUF file into the store, and replace any model of the same name.

        The new file is put beside the old one. Then the manifest is replaced by one that names the new file. So an
        interrupted update leaves either the old model or the new one. `source` must have the manifest's size and
        sha256. Raises ModelError if the file is not safe for llama.cpp, and BusyError while another process writes the
        model.
        """
        folder = self.folder(manifest.name)
        with self.writing(manifest.name, patience=_PATIENCE):
            check_model(read_header(source))
            file = f"model-{manifest.sha256[:12]}.gguf"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                move_file(source, folder / file)
                replace(manifest, file=file).write(folder / _MANIFEST)
            except OSError as error:
                raise ModelError(
                    f"{manifest.name} could not be put into {folder} ({error.strerror})",
                    step="free some space or check its permissions",
                ) from None
            self.note(manifest.name)
            for old in folder.glob("model*.gguf"):
                if old.name != file:
                    with suppress(OSError):  # Windows keeps a file that a process has open
                        old.unlink()
        return self.get(manifest.name)

    def remove(self, name: str) -> None:
        """Delete a model's folder and everything in it. If the folder is a symbolic link, delete only the link.

        Raises ModelError if there is no such model, and BusyError while another process writes the model.
        """
        folder = self.folder(name)
        if not folder.is_dir():
            self.get(name)
        with self.writing(name, patience=_PATIENCE):
            digests = {self._identities.remembered(folder / _MODEL)}
            with suppress(ModelError):  # a damaged manifest names no bytes
                digests.add(read_manifest(folder / _MANIFEST).sha256)
            try:
                if folder.is_symlink():
                    folder.unlink()
                else:
                    (folder / _MANIFEST).unlink(missing_ok=True)  # so a half-removed model no longer exists
                    shutil.rmtree(folder)
            except OSError as error:
                raise ModelError(
                    f"{folder} could not be deleted ({error.strerror})", step="check its permissions"
                ) from None
            for sha256 in digests:
                self._forget_states(sha256)
