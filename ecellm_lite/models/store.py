"""The local store: one folder a model, with its GGUF file and its manifest.

A model is loaded from it only if its file is, byte for byte, what its manifest says. What was read of instructions by a
model's bytes (`states`) goes with those bytes.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.home import home
from ecellm_lite.models.catalogue import DEMO, how_to_get
from ecellm_lite.models.file_identity import FileIdentities, FileIdentity
from ecellm_lite.models.files import replacing, sha256_of
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.manifest import Manifest, read_manifest
from ecellm_lite.models.model_check import check_model

# No "--", which stands for the colon in a folder's name.
_NAME = re.compile(r"(?!.*--)[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?<!-)(:[A-Za-z0-9_]{1,16})?")
_MODEL = "model.gguf"
_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model whose file is there, with what its manifest says.

    `tasks`: those that its file names, once its header is read. `identity`: the state that the file was in when it was
    found to have the manifest's sha256, once that was looked at.
    """

    path: Path
    manifest: Manifest
    tasks: tuple[str, ...] = ()
    identity: FileIdentity | None = None

    @property
    def unchanged(self) -> bool:
        """Whether the file is still the one that was looked at."""
        return self.identity is None or self.identity.holds(self.path)

    def check_unchanged(self) -> None:
        """Raise ModelError if the file was changed since it was looked at."""
        if not self.unchanged:
            raise ModelError(f"{self.path} was changed while it was loaded", step="load it when it has been written")


class Store:
    """The models of one user, under `root` (by default the user's home of this package)."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or home()
        self.states = self.root / "prefixes"
        self._identities = FileIdentities(self.root / "hashes.json")

    def folder(self, name: str) -> Path:
        """Return the folder of a model's name; raises UsageError for a name that could mean another place."""
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name[:80]!r} cannot be a model's name: take letters, digits, '.', '_' and '-', "
                "and a file type behind a colon if you like, as in eCeLLM-M:Q4_K_M."
            )
        # A colon is no part of a file name on Windows.
        return self.root / "models" / name.replace(":", "--")

    def names(self) -> list[str]:
        """Return the names of the models that are there, sorted."""
        models = self.root / "models"
        if not models.is_dir():
            return []
        return sorted(filter(self.has, (folder.name.replace("--", ":") for folder in models.iterdir())))

    def __iter__(self) -> Iterator[StoredModel]:
        return (self.get(name) for name in self.names())

    def has(self, name: str) -> bool:
        """Whether there is a model of that name."""
        return _NAME.fullmatch(name) is not None and (self.folder(name) / _MANIFEST).is_file()

    def get(self, name: str) -> StoredModel:
        """Return the model of that name; raises ModelError if it is not there, or not as its manifest says."""
        folder = self.folder(name)
        if not (folder / _MANIFEST).is_file():
            there = ", ".join(self.names()) or "none yet"
            raise ModelError(f"There is no model {name!r} in the store (there: {there}): {how_to_get(name)}")
        manifest = read_manifest(folder / _MANIFEST)
        path = folder / manifest.file
        size = path.stat().st_size if path.is_file() else 0
        if size != manifest.size:
            raise ModelError(
                f"The model {name!r} is damaged: {path} has {size:,} bytes and its manifest says {manifest.size:,}; "
                f"remove it with `ecellm-lite models remove {name}` and add it again."
            )
        return StoredModel(path, manifest)

    def load(self, name: str) -> StoredModel:
        """Return the model of that name once its file was found to be what its manifest says, byte for byte.

        Raises ModelError if it is not, or not there.
        """
        model = self.get(name)
        identity = self.identify(model.path)
        if identity.sha256 != model.manifest.sha256:
            raise ModelError(
                f"The model {name!r} is damaged: its sha256 is {identity.sha256} and its manifest says "
                f"{model.manifest.sha256}",
                step="remove the model and add it again",
            )
        return replace(model, identity=identity)

    def identify(self, path: Path, *, again: bool = False) -> FileIdentity:
        """Return which bytes a model's file holds; `again`: hash it as a whole, whatever is remembered of it.

        Raises ModelError where it cannot be read.
        """
        try:
            before = self._identities.remembered(path)
            identity = self._identities.identify(path, again=again)
        except OSError as error:
            raise ModelError(f"The model {path} cannot be read ({error.strerror})", step="check its rights") from None
        if before != identity.sha256:
            self._forget_states(before)
        return identity

    def _forget_states(self, sha256: str | None) -> None:
        """Remove what was read of instructions by a model's bytes, which are not there any more."""
        if sha256:
            shutil.rmtree(self.states / sha256, ignore_errors=True)

    def new_place(self, name: str) -> tuple[Path, Path]:
        """Return where the file and the manifest of a new model go; raises UsageError if the name is taken."""
        folder = self.folder(name)
        if name == DEMO:
            raise UsageError(f"The name {DEMO!r} is the demo model's own: take another --name.")
        if self.has(name):
            raise UsageError(f"There is a model {name!r} already: take another --name, or remove that one first.")
        return folder / _MODEL, folder / _MANIFEST

    def add(
        self,
        source: Path,
        name: str,
        envelope: str,
        *,
        origin: str = "",
        licence: str = "",
        move: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> StoredModel:
        """Copy (or move) a GGUF file into the store under a name; raises UsageError if the name is taken.

        Of a link that is moved the file behind it is copied, and the link alone is removed.
        """
        target, described = self.new_place(name)
        check_model(read_header(source))
        try:
            sha256 = sha256_of(source, progress)
            target.parent.mkdir(parents=True, exist_ok=True)
            moved = move and _moved(source, target)
            if not moved:
                with replacing(target) as temporary:
                    shutil.copyfile(source, temporary)
            manifest = Manifest(
                name,
                _MODEL,
                target.stat().st_size,
                sha256,
                envelope,
                origin or f"{source.name}, added by hand",
                licence,
            )
            # The manifest is written last: a model without one is not there.
            manifest.write(described)
            self._identities.note(target, sha256)
            if move and not moved:
                source.unlink()
        except OSError as error:
            raise ModelError(
                f"{source} could not be put into {target.parent} ({error}): make room or check its rights."
            ) from None
        return StoredModel(target, manifest)

    def remove(self, name: str) -> None:
        """Delete a model and its manifest; of a folder that is a link the link alone."""
        folder = self.folder(name)
        if not folder.is_dir():
            self.get(name)
        left = {self._identities.remembered(folder / _MODEL)}
        with suppress(ModelError):  # a manifest that is damaged names no bytes
            left.add(read_manifest(folder / _MANIFEST).sha256)
        try:
            if folder.is_symlink():
                folder.unlink()
            else:
                shutil.rmtree(folder)
        except OSError as error:
            raise ModelError(f"{folder} could not be deleted ({error.strerror})", step="check its rights") from None
        for sha256 in left:
            self._forget_states(sha256)


def _moved(source: Path, target: Path) -> bool:
    """Whether a file could be moved by its name alone: not a link, and not to another disk."""
    if source.is_symlink():
        return False
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True
