"""The LoRA adapters that are loaded with a model.

Each adapter is a checked GGUF file with a name. A request chooses an adapter by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.adapter_check import check_adapter, check_finite
from ecellm_lite.models.file_identity import FileIdentity
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.store import Store, StoredModel

MOST = 64  # adapters beside one model
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """A LoRA adapter: its name, its file, and the file's identity (hash, size and times) when it was checked."""

    name: str
    path: Path
    identity: FileIdentity

    @property
    def sha256(self) -> str:
        """The sha256 of the file, in hex."""
        return self.identity.sha256

    def check_unchanged(self) -> None:
        """Raise ModelError if the file was changed since it was checked."""
        if not self.identity.holds(self.path):
            raise ModelError(f"{self.path} was changed while it was loaded", step="load it again once it is written")


def find_adapters(
    adapters: Mapping[str, str | Path] | None, store: Store, base: StoredModel
) -> tuple[AdapterFile, ...]:
    """Check that adapters fit the base model, and return their files. Only these files are safe for llama.cpp to load.

    `adapters`: the path of each adapter's file, by the adapter's name.

    Raises UsageError for an invalid name or too many adapters. Raises ModelError for a file that is damaged, hostile or
    made for another base model.
    """
    if not adapters:
        return ()
    if len(adapters) > MOST:
        raise UsageError(f"There are {len(adapters):,} adapters", step=f"give at most {MOST}", settings=("adapters",))
    header = read_header(base.path)
    architecture = str(header.metadata["general.architecture"])
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    files = []
    for name, path in adapters.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(
                f"{str(name)[:80]!r} cannot be the name of an adapter",
                step="use letters, digits, '.', '_' and '-', at most 64",
                settings=("adapters",),
            )
        own = read_header(Path(path), "adapter")
        check_adapter(own, architecture, shapes)
        file = AdapterFile(name, Path(path), store.identify(Path(path)))
        check_finite(own)
        file.check_unchanged()
        files.append(file)
    return tuple(files)
